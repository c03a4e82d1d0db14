// OpenVINO, on the CPU. What is used of its C API is declared here by name, so that no header of it is needed. Run with
// its releases 2024.6, 2025.0 and 2026.4.
#include <algorithm>

#include "backend.hpp"
#include "error.hpp"
#include "lender.hpp"
#include "ports.hpp"
#include "shared_library.hpp"
#include "text.hpp"

namespace signedge {
namespace {

constexpr char variable[] = "SIGNEDGE_OPENVINO_LIBRARY";

struct Core;
struct Network;
struct Compiled;
struct Request;
struct Tensor;
struct ConstPort;
struct Version {
    const char *build, *description;
};
struct Dimension {
    int64_t least, most;
};
struct PartialShape {
    Dimension rank;
    Dimension *sides;
};
struct StaticShape {
    int64_t rank;
    const int64_t *sides;
};

// The functions in use. A library that lacks one is refused when it is opened.
class Api {
public:
    explicit Api(const std::string &path)
        : library_("OpenVINO", path, variable, {"libopenvino_c.so"}) {
        get(get_version, "ov_get_openvino_version");
        get(free_version, "ov_version_free");
        get(status_words, "ov_get_error_info");
        get(last_words, "ov_get_last_err_msg");
        get(free_text, "ov_free");
        get(create_core, "ov_core_create");
        get(free_core, "ov_core_free");
        get(read, "ov_core_read_model_from_memory_buffer");
        get(free_network, "ov_model_free");
        get(compile, "ov_core_compile_model");
        get(free_compiled, "ov_compiled_model_free");
        get(create_request, "ov_compiled_model_create_infer_request");
        get(free_request, "ov_infer_request_free");
        get(set_input, "ov_infer_request_set_input_tensor");
        get(set_output, "ov_infer_request_set_output_tensor");
        get(start, "ov_infer_request_start_async");
        get(wait, "ov_infer_request_wait");
        get(wrap, "ov_tensor_create_from_host_ptr");
        get(byte_size, "ov_tensor_get_byte_size");
        get(tensor_shape, "ov_tensor_get_shape");
        get(free_tensor, "ov_tensor_free");
        get(free_shape, "ov_shape_free");
        get(input_count, "ov_model_inputs_size");
        get(output_count, "ov_model_outputs_size");
        get(input_by_index, "ov_model_const_input_by_index");
        get(output_by_index, "ov_model_const_output_by_index");
        get(input_by_name, "ov_model_const_input_by_name");
        get(output_by_name, "ov_model_const_output_by_name");
        get(free_port, "ov_output_const_port_free");
        get(port_name, "ov_port_get_any_name");
        get(port_type, "ov_port_get_element_type");
        get(port_shape, "ov_port_get_partial_shape");
        get(free_partial_shape, "ov_partial_shape_free");
    }

    void check(int status) const {
        if (status == 0) {
            return;
        }
        const char *words = last_words();
        const std::string message = one_line(words && *words ? words : status_words(status));
        free_text(words);
        fail(SIGNEDGE_BACKEND_FAILED, "OpenVINO: %s", message.c_str());
    }

    // Its number without the build's: "2026.4.1".
    std::string version() const {
        Version found{};
        check(get_version(&found));
        const std::string build = found.build ? found.build : "";
        free_version(&found);
        return build.substr(0, build.find('-'));
    }

    // Its number for float32, which was 5 before it became 4: of both, the type that takes four bytes.
    int float32() const {
        float value = 0;
        const int64_t one = 1;
        Tensor *tensor = nullptr;
        size_t bytes = 0;
        check(wrap(4, {1, &one}, &value, &tensor));
        const int status = byte_size(tensor, &bytes);
        free_tensor(tensor);
        check(status);
        return bytes == sizeof(float) ? 4 : 5;
    }

    int (*get_version)(Version *);
    void (*free_version)(Version *);
    const char *(*status_words)(int);
    const char *(*last_words)();
    void (*free_text)(const char *);
    int (*create_core)(Core **);
    void (*free_core)(Core *);
    int (*read)(const Core *, const char *, size_t, const Tensor *, Network **);
    void (*free_network)(Network *);
    int (*compile)(const Core *, const Network *, const char *, size_t texts, Compiled **, ...);  // keys and values
    void (*free_compiled)(Compiled *);
    int (*create_request)(const Compiled *, Request **);
    void (*free_request)(Request *);
    int (*set_input)(Request *, const Tensor *);
    int (*set_output)(Request *, const Tensor *);
    int (*start)(Request *);
    int (*wait)(Request *);
    int (*wrap)(int, StaticShape, void *, Tensor **);
    int (*byte_size)(const Tensor *, size_t *);
    int (*tensor_shape)(const Tensor *, StaticShape *);
    void (*free_tensor)(Tensor *);
    int (*free_shape)(StaticShape *);
    int (*input_count)(const Network *, size_t *);
    int (*output_count)(const Network *, size_t *);
    int (*input_by_index)(const Network *, size_t, ConstPort **);
    int (*output_by_index)(const Network *, size_t, ConstPort **);
    int (*input_by_name)(const Network *, const char *, ConstPort **);
    int (*output_by_name)(const Network *, const char *, ConstPort **);
    void (*free_port)(ConstPort *);
    int (*port_name)(const ConstPort *, char **);
    int (*port_type)(const ConstPort *, int *);
    int (*port_shape)(const ConstPort *, PartialShape *);
    void (*free_partial_shape)(PartialShape *);

private:
    template <typename Function>
    void get(Function &function, const char *name) {
        function = library_.function<Function>(name);
    }

    SharedLibrary library_;
};

// A handle of OpenVINO that is freed when it goes out of scope.
template <typename Handle>
class Owned {
public:
    explicit Owned(void (*free)(Handle *)) : free_(free) {}
    ~Owned() {
        if (handle) {
            free_(handle);
        }
    }
    Owned(const Owned &) = delete;
    Owned &operator=(const Owned &) = delete;
    Handle *handle = nullptr;

private:
    void (*free_)(Handle *);
};

class OpenVinoSession final : public Session {
public:
    OpenVinoSession(const EngineFile &engine, const SessionOptions &options)
        : api_(options.library), version_(api_.version()), float32_(api_.float32()), ports_(engine),
          core_(api_.free_core), compiled_(api_.free_compiled), requests_([this] { return make_request(); }) {
        api_.check(api_.create_core(&core_.handle));
        Owned<Network> network(api_.free_network);
        api_.check(api_.read(core_.handle, reinterpret_cast<const char *>(engine.bytes.data()), engine.bytes.size(),
                             nullptr, &network.handle));
        check_ports(*network.handle);
        compile_network(*network.handle, options.threads);
    }

    void run(const float *input, int64_t batch, int64_t frames, float *log_probs, int64_t steps) override {
        const Shape in = ports_.input(batch, frames), out = ports_.output(batch, steps);
        Owned<Tensor> x(api_.free_tensor), y(api_.free_tensor);
        wrap(const_cast<float *>(input), in, x);
        wrap(log_probs, out, y);
        const auto request = requests_.lend();
        api_.check(api_.set_input(request->handle, x.handle));
        // The network writes where the caller reads.
        api_.check(api_.set_output(request->handle, y.handle));
        // Not ov_infer_request_infer: with one thread, that of 2026.4 returns success where it failed.
        api_.check(api_.start(request->handle));
        api_.check(api_.wait(request->handle));
        check_shape(*y.handle, out);
    }

    bool batches() const override { return batches_; }
    std::string description() const override { return "openvino " + version_; }

private:
    void wrap(float *data, const Shape &shape, Owned<Tensor> &tensor) const {
        api_.check(api_.wrap(float32_, {static_cast<int64_t>(shape.rank), shape.sides}, data, &tensor.handle));
    }

    // An output smaller than its room is no error to OpenVINO: the tensor shrinks.
    void check_shape(const Tensor &tensor, const Shape &expected) const {
        StaticShape found{};
        api_.check(api_.tensor_shape(&tensor, &found));
        const bool same = found.rank == static_cast<int64_t>(expected.rank) &&
                          std::equal(found.sides, found.sides + found.rank, expected.sides);
        api_.free_shape(&found);
        if (!same) {
            fail(SIGNEDGE_BACKEND_FAILED, "OpenVINO: the output has not the shape that the contract says");
        }
    }

    void compile_network(const Network &network, int threads) {
        const std::string count = std::to_string(threads);
        // One stream, so that runs of several callers take turns: 2026.4 makes INT8 networks for several streams that
        // compute something else. Float32 engines run in float32, which is not the default where the CPU has bfloat16.
        // Threads are not tied to cores: those of two models or processes would be tied to the same ones.
        api_.check(api_.compile(core_.handle, &network, "CPU", 10, &compiled_.handle, "PERFORMANCE_HINT", "LATENCY",
                                "NUM_STREAMS", "1", "INFERENCE_NUM_THREADS", count.c_str(),
                                "INFERENCE_PRECISION_HINT", "f32", "ENABLE_CPU_PINNING", "NO"));
    }

    std::unique_ptr<Owned<Request>> make_request() const {
        auto request = std::make_unique<Owned<Request>>(api_.free_request);
        api_.check(api_.create_request(compiled_.handle, &request->handle));
        return request;
    }

    void check_ports(const Network &network) {
        const Port in = port(network, api_.input_count, api_.input_by_name, api_.input_by_index, input_name);
        const Port out = port(network, api_.output_count, api_.output_by_name, api_.output_by_index, output_name);
        ports_.check(in, out);
        batches_ = in.sides[0] <= 0;
    }

    template <typename Count, typename ByName, typename ByIndex>
    Port port(const Network &network, Count count, ByName by_name, ByIndex by_index, const char *expected) const {
        Port found;
        api_.check(count(&network, &found.count));
        if (found.count != 1) {
            return found;
        }
        // A tensor may have several names: the expected one counts wherever it is among them.
        Owned<ConstPort> end(api_.free_port);
        if (by_name(&network, expected, &end.handle) == 0) {
            found.name = expected;
        } else {
            api_.check(by_index(&network, 0, &end.handle));
            char *name = nullptr;
            api_.check(api_.port_name(end.handle, &name));
            found.name = name;
            api_.free_text(name);
        }
        int type = 0;
        api_.check(api_.port_type(end.handle, &type));
        found.float32 = type == float32_;
        PartialShape shape{};
        api_.check(api_.port_shape(end.handle, &shape));
        for (int64_t i = 0; i < shape.rank.most; i++) {
            found.sides.push_back(shape.sides[i].least == shape.sides[i].most ? shape.sides[i].most : -1);
        }
        api_.free_partial_shape(&shape);
        return found;
    }

    Api api_;
    std::string version_;
    int float32_;
    Ports ports_;
    Owned<Core> core_;
    Owned<Compiled> compiled_;
    Lender<Owned<Request>> requests_;
    bool batches_ = false;
};

std::string version(const std::string &library) { return Api(library).version(); }

std::unique_ptr<Session> load(const EngineFile &engine, const SessionOptions &options) {
    return std::make_unique<OpenVinoSession>(engine, options);
}

}  // namespace

extern const Backend backend_openvino;
const Backend backend_openvino = {"openvino", version, load};

}  // namespace signedge
