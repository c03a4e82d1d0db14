// ONNX Runtime, on the CPU. Its C API is one table of functions that only ever grows at its end; what is used of it is
// declared here by its place in the table, so that no header of it is needed and any library since 1.16 serves.
#include "backend.hpp"
#include "error.hpp"
#include "ports.hpp"
#include "shared_library.hpp"
#include "text.hpp"

namespace signedge {
namespace {

constexpr uint32_t api_version = 16;
constexpr char variable[] = "SIGNEDGE_ONNXRUNTIME_LIBRARY";
constexpr int tensor_float = 1, arena_allocator = 1, default_memory = 0, warning = 2, silent = 4, optimise_all = 99;

struct Status;
struct Env;
struct Session_;
struct Options;
struct MemoryInfo;
struct Value;
struct TypeInfo;
struct TensorInfo;
struct Allocator;

struct ApiBase {
    const void *const *(*get_api)(uint32_t version);
    const char *(*version)();
};

// The functions in use, by their places in the table of version 16 and later.
enum Place {
    error_message = 2,
    create_env = 3,
    disable_telemetry = 6,
    create_session_from_array = 8,
    run_session = 9,
    create_options = 10,
    set_log_severity = 22,
    set_optimisation = 23,
    set_intra_threads = 24,
    set_inter_threads = 25,
    input_count = 30,
    output_count = 31,
    input_type = 33,
    output_type = 34,
    get_input_name = 36,
    get_output_name = 37,
    create_tensor = 49,
    cast_to_tensor_info = 55,
    element_type = 60,
    dimension_count = 61,
    dimensions = 62,
    create_cpu_memory_info = 69,
    allocator_free = 76,
    default_allocator = 78,
    release_env = 92,
    release_status = 93,
    release_memory_info = 94,
    release_session = 95,
    release_value = 96,
    release_type_info = 98,
    release_options = 100,
    add_config_entry = 130
};

// The table, and the library that it lies in.
class Api {
public:
    explicit Api(const std::string &path)
        : library_("ONNX Runtime", path, variable, {"libonnxruntime.so.1", "libonnxruntime.so"}) {
        const ApiBase *base = library_.function<const ApiBase *(*)()>("OrtGetApiBase")();
        version = base->version();
        table_ = base->get_api(api_version);
        if (!table_) {
            fail(SIGNEDGE_NO_BACKEND, "ONNX Runtime %s is too old: version 1.%u or later is needed", version.c_str(),
                 api_version);
        }
    }

    template <int place, typename... Arguments>
    void call(Arguments... arguments) const {
        check(function<Status *(*)(Arguments...)>(place)(arguments...));
    }
    template <int place, typename Handle>
    void release(Handle *handle) const {
        if (handle) {
            function<void (*)(Handle *)>(place)(handle);
        }
    }

    std::string version;

private:
    void check(Status *status) const {
        if (!status) {
            return;
        }
        const std::string message = one_line(function<const char *(*)(const Status *)>(error_message)(status));
        release<release_status>(status);
        fail(SIGNEDGE_BACKEND_FAILED, "ONNX Runtime: %s", message.c_str());
    }

    template <typename Function>
    Function function(int place) const {
        return reinterpret_cast<Function>(const_cast<void *>(table_[place]));
    }

    SharedLibrary library_;
    const void *const *table_ = nullptr;
};

// A handle of ONNX Runtime that is released when it goes out of scope.
template <typename Handle, int place>
class Owned {
public:
    explicit Owned(const Api &api) : api_(api) {}
    ~Owned() { api_.template release<place>(handle); }
    Owned(const Owned &) = delete;
    Owned &operator=(const Owned &) = delete;
    Handle *handle = nullptr;

private:
    const Api &api_;
};

class OnnxRuntimeSession final : public Session {
public:
    OnnxRuntimeSession(const EngineFile &engine, const SessionOptions &options)
        : api_(options.library), env_(api_), session_(api_), memory_(api_), ports_(engine) {
        api_.call<create_env>(int{warning}, "signedge", &env_.handle);
        // What it may be asked not to report, over the network; the rest is for the environment: see the header.
        api_.call<disable_telemetry>(static_cast<const Env *>(env_.handle));
        Owned<Options, release_options> settings(api_);
        api_.call<create_options>(&settings.handle);
        api_.call<set_log_severity>(settings.handle, int{silent});
        api_.call<set_optimisation>(settings.handle, int{optimise_all});
        api_.call<set_intra_threads>(settings.handle, options.threads);
        api_.call<set_inter_threads>(settings.handle, 1);
        // Threads that spin after a run would eat the time of whatever else the program does.
        api_.call<add_config_entry>(settings.handle, "session.force_spinning_stop", "1");
        api_.call<create_session_from_array>(env_.handle, static_cast<const void *>(engine.bytes.data()),
                                             engine.bytes.size(), settings.handle, &session_.handle);
        api_.call<create_cpu_memory_info>(int{arena_allocator}, int{default_memory}, &memory_.handle);
        const Port in = port<input_count, get_input_name, input_type>();
        ports_.check(in, port<output_count, get_output_name, output_type>());
        batches_ = in.sides[0] <= 0;
    }

    void run(const float *input, int64_t batch, int64_t frames, float *log_probs, int64_t steps) override {
        Owned<Value, release_value> x(api_), y(api_);
        wrap(const_cast<float *>(input), ports_.input(batch, frames), &x.handle);
        wrap(log_probs, ports_.output(batch, steps), &y.handle);
        const char *const names_in[] = {input_name};
        const char *const names_out[] = {output_name};
        const Value *const values_in[] = {x.handle};
        // The network writes where the caller reads. A shape that the contract did not promise is an error here.
        api_.call<run_session>(session_.handle, static_cast<const void *>(nullptr), &names_in[0], &values_in[0],
                               size_t{1}, &names_out[0], size_t{1}, &y.handle);
    }

    bool batches() const override { return batches_; }
    std::string description() const override { return "onnxruntime " + api_.version; }

private:
    void wrap(float *data, const Shape &shape, Value **value) const {
        api_.call<create_tensor>(static_cast<const MemoryInfo *>(memory_.handle), static_cast<void *>(data),
                                 static_cast<size_t>(shape.values()) * sizeof(float), &shape.sides[0], shape.rank,
                                 int{tensor_float}, value);
    }

    template <int count_place, int name_place, int type_place>
    Port port() const {
        const Session_ *session = session_.handle;
        Port found;
        api_.call<count_place>(session, &found.count);
        if (found.count != 1) {
            return found;
        }
        Allocator *allocator = nullptr;
        api_.call<default_allocator>(&allocator);
        char *name = nullptr;
        api_.call<name_place>(session, size_t{0}, allocator, &name);
        found.name = name;
        api_.call<allocator_free>(allocator, static_cast<void *>(name));
        Owned<TypeInfo, release_type_info> type(api_);
        api_.call<type_place>(session, size_t{0}, &type.handle);
        const TensorInfo *tensor = nullptr;
        api_.call<cast_to_tensor_info>(static_cast<const TypeInfo *>(type.handle), &tensor);
        if (!tensor) {
            return found;
        }
        int element = 0;
        api_.call<element_type>(tensor, &element);
        found.float32 = element == tensor_float;
        size_t rank = 0;
        api_.call<dimension_count>(tensor, &rank);
        found.sides.resize(rank);
        api_.call<dimensions>(tensor, found.sides.data(), rank);
        return found;
    }

    Api api_;
    Owned<Env, release_env> env_;
    Owned<Session_, release_session> session_;
    Owned<MemoryInfo, release_memory_info> memory_;
    Ports ports_;
    bool batches_ = false;
};

std::string version(const std::string &library) { return Api(library).version; }

std::unique_ptr<Session> load(const EngineFile &engine, const SessionOptions &options) {
    return std::make_unique<OnnxRuntimeSession>(engine, options);
}

}  // namespace

extern const Backend backend_onnxruntime;
const Backend backend_onnxruntime = {"onnxruntime", version, load};

}  // namespace signedge
