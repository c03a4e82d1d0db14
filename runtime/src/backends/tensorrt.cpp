// TensorRT, on the first NVIDIA GPU. Untested on hardware: written from NVIDIA's headers and documentation, compiled
// against those of 8.5, 8.6, 10.0, 10.16 and 11.1, and run against stand-ins for both libraries only.
//
// Its interface is C++, so the library's major version must be that of the headers; both it and the CUDA driver are
// opened when they are needed. A run copies its input to buffers that stay on the device; from the second run of a
// shape on, the network is one launch of a CUDA graph.
#include <NvInfer.h>

#include <algorithm>
#include <cstring>
#include <mutex>

#include "backend.hpp"
#include "cuda_driver.hpp"
#include "error.hpp"
#include "lender.hpp"
#include "ports.hpp"
#include "shared_library.hpp"
#include "text.hpp"

namespace signedge {
namespace {

constexpr char variable[] = "SIGNEDGE_TENSORRT_LIBRARY";
using Dims = nvinfer1::Dims;

class TensorRt {
public:
    explicit TensorRt(const std::string &path)
        : library_("TensorRT", path, variable, {("libnvinfer.so." + std::to_string(NV_TENSORRT_MAJOR)).c_str()}),
          create_runtime(library_.function<decltype(&createInferRuntime_INTERNAL)>("createInferRuntime_INTERNAL")) {
        // The number had one digit less for the major version before 10.
        const int32_t number = library_.function<decltype(&getInferLibVersion)>("getInferLibVersion")();
        const int32_t major = number >= 10000 ? number / 10000 : number / 1000;
        const int32_t minor = number >= 10000 ? number / 100 % 100 : number / 100 % 10;
        version = std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(number % 100);
        if (major != NV_TENSORRT_MAJOR) {
            fail(SIGNEDGE_NO_BACKEND, "this is TensorRT %s; this build of signedge was compiled for TensorRT %d",
                 version.c_str(), NV_TENSORRT_MAJOR);
        }
    }

private:
    SharedLibrary library_;

public:
    decltype(&createInferRuntime_INTERNAL) create_runtime;
    std::string version;
};

// Passes TensorRT's words on, and keeps those of errors for the exception: its functions return no more than false.
class Logger final : public nvinfer1::ILogger {
public:
    explicit Logger(const Log &log) : log_(log) {}

    void log(Severity severity, const char *words) noexcept override {
        if (severity > Severity::kINFO) {
            return;
        }
        const bool error = severity <= Severity::kERROR;
        if (error) {
            const std::lock_guard<std::mutex> lock(mutex_);
            const size_t used = std::strlen(errors_);
            std::snprintf(errors_ + used, sizeof errors_ - used, "%s%s", used ? "; " : "", words);
        }
        log_(error                             ? SIGNEDGE_LOG_ERROR
             : severity == Severity::kWARNING ? SIGNEDGE_LOG_WARNING
                                               : SIGNEDGE_LOG_INFO,
             words);
    }

    bool heard_an_error() {
        const std::lock_guard<std::mutex> lock(mutex_);
        return errors_[0] != 0;
    }

    void need(bool done, const char *what) {
        if (!done) {
            const std::lock_guard<std::mutex> lock(mutex_);
            const std::string words = one_line(errors_);
            errors_[0] = 0;
            fail(SIGNEDGE_BACKEND_FAILED, "TensorRT cannot %s: %s", what, words.c_str());
        }
    }

private:
    Log log_;
    std::mutex mutex_;
    char errors_[512] = "";
};

size_t bytes_of(const Shape &shape) { return static_cast<size_t>(shape.values()) * sizeof(float); }

Dims dims_of(const Shape &shape) {
    Dims dims{};
    dims.nbDims = static_cast<int32_t>(shape.rank);
    std::copy_n(shape.sides, shape.rank, dims.d);
    return dims;
}

bool equal(const Dims &dims, const Shape &shape) {
    return dims.nbDims == static_cast<int32_t>(shape.rank) && std::equal(dims.d, dims.d + dims.nbDims, shape.sides);
}

// What one run at a time needs: TensorRT's state of a network, a stream, and memory on the device.
class Worker {
public:
    Worker(const Cuda &cuda, Logger &logger, nvinfer1::ICudaEngine &engine)
        : cuda_(cuda), logger_(logger), input_(cuda), output_(cuda), context_(engine.createExecutionContext()) {
        logger_.need(context_ != nullptr, "make an execution context");
        cuda_.check(cuda_.create_stream(&stream_, CU_STREAM_NON_BLOCKING));
    }
    ~Worker() {
        drop_graph();
        if (stream_) {
            cuda_.destroy_stream(stream_);
        }
    }
    Worker(const Worker &) = delete;
    Worker &operator=(const Worker &) = delete;

    void run(const float *input, const Shape &in, float *log_probs, const Shape &out) {
        if (!equal(bound_in_, in) || !equal(bound_out_, out)) {
            bind(in, out);
        }
        const Settled settled{*this};
        cuda_.check(cuda_.copy_in(input_.address, input, bytes_of(in), stream_));
        infer();
        cuda_.check(cuda_.copy_out(log_probs, output_.address, bytes_of(out), stream_));
        cuda_.check(cuda_.wait(stream_));
    }

private:
    // The device must be done with the caller's memory, also when a step failed.
    struct Settled {
        Worker &worker;
        ~Settled() { worker.cuda_.wait(worker.stream_); }
    };

    void bind(const Shape &in, const Shape &out) {
        drop_graph();  // a graph holds shapes and addresses
        bound_in_ = bound_out_ = Dims{};
        runs_ = 0;
        input_.reserve(bytes_of(in));
        output_.reserve(bytes_of(out));
        logger_.need(context_->setInputShape(input_name, dims_of(in)), "take this shape");
        logger_.need(context_->setTensorAddress(input_name, reinterpret_cast<void *>(input_.address)) &&
                         context_->setTensorAddress(output_name, reinterpret_cast<void *>(output_.address)),
                     "use device memory");
        if (!equal(context_->getTensorShape(output_name), out)) {
            fail(SIGNEDGE_BACKEND_FAILED, "TensorRT: the output has not the shape that the contract says");
        }
        bound_in_ = dims_of(in);
        bound_out_ = dims_of(out);
    }

    // A graph may only be captured after a run of its shape, and serves until the shape changes.
    void infer() {
        if (runs_ < 2 && ++runs_ == 2) {
            capture();
        }
        if (graph_) {
            cuda_.check(cuda_.launch(graph_, stream_));
        } else {
            logger_.need(context_->enqueueV3(stream_), "run");
        }
    }

    // A network that cannot be captured, since it waits for the device inside, runs as it is.
    void capture() {
        if (cuda_.begin_capture(stream_, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL) != CUDA_SUCCESS) {
            return;
        }
        const bool enqueued = context_->enqueueV3(stream_);
        CUgraph graph = nullptr;
        const bool captured = cuda_.end_capture(stream_, &graph) == CUDA_SUCCESS && graph && enqueued;
        if (captured && cuda_.make_executable(&graph_, graph, 0) != CUDA_SUCCESS) {
            graph_ = nullptr;
        }
        if (graph) {
            cuda_.destroy_graph(graph);
        }
    }

    void drop_graph() {
        if (graph_) {
            cuda_.destroy_executable(graph_);
            graph_ = nullptr;
        }
    }

    const Cuda &cuda_;
    Logger &logger_;
    Buffer input_, output_;
    std::unique_ptr<nvinfer1::IExecutionContext> context_;
    CUstream stream_ = nullptr;
    CUgraphExec graph_ = nullptr;
    Dims bound_in_{}, bound_out_{};
    int runs_ = 0;  // of the bound shapes, counted to 2
};

class TensorRtSession final : public Session {
public:
    TensorRtSession(const EngineFile &engine, const SessionOptions &options)
        : library_(options.library), logger_(options.log), ports_(engine), path_(shown(engine.path, 400)) {
        check(engine);
        const Cuda::Current current(cuda_);
        void *made = library_.create_runtime(&logger_, NV_TENSORRT_VERSION);
        // Where the driver is too old, the lean library of 10.16 tells the logger and returns a pointer to nowhere.
        logger_.need(made && !logger_.heard_an_error(), "start");
        runtime_.reset(static_cast<nvinfer1::IRuntime *>(made));
        if (engine.plan && engine.plan->dla_core >= 0) {
            runtime_->setDLACore(engine.plan->dla_core);
        }
#if NV_TENSORRT_MAJOR * 100 + NV_TENSORRT_MINOR >= 806
        runtime_->setEngineHostCodeAllowed(engine.plan && engine.plan->version_compatible);
#endif
        engine_.reset(runtime_->deserializeCudaEngine(engine.bytes.data(), engine.bytes.size()));
        logger_.need(engine_ != nullptr, "load this plan");
        const Port input = port(nvinfer1::TensorIOMode::kINPUT);
        ports_.check(input, port(nvinfer1::TensorIOMode::kOUTPUT));
        batch_ = limits(input, 0);
        frames_ = limits(input, 1);
        workers_ = std::make_unique<Lender<Worker>>(
            [this] { return std::make_unique<Worker>(cuda_, logger_, *engine_); });
    }

    ~TensorRtSession() override {
        const Cuda::Current current(cuda_);
        workers_.reset();
        engine_.reset();
        runtime_.reset();
    }

    // A batch beyond what the engine was built for is run in parts.
    void run(const float *input, int64_t batch, int64_t frames, float *log_probs, int64_t steps) override {
        if (frames < frames_.least || frames > frames_.most) {
            fail(SIGNEDGE_BACKEND_FAILED, "%s was built for %lld to %lld frames; these are %lld", path_.c_str(),
                 static_cast<long long>(frames_.least), static_cast<long long>(frames_.most),
                 static_cast<long long>(frames));
        }
        const Cuda::Current current(cuda_);
#if NV_TENSORRT_MAJOR < 9
        const std::lock_guard<std::mutex> alone(alone_);  // a second context may not take the profile of the first
#endif
        const auto worker = workers_->lend();
        for (int64_t done = 0; done < batch;) {
            const int64_t part = std::min(batch - done, batch_.most);
            const Shape in = ports_.input(part, frames), out = ports_.output(part, steps);
            worker->run(input, in, log_probs, out);
            input += in.values();
            log_probs += out.values();
            done += part;
        }
    }

    bool batches() const override { return batch_.most > 1; }
    std::string description() const override { return "tensorrt " + library_.version; }

private:
    struct Limits {
        int64_t least, most;
    };

    // A plan is code for one GPU and one version: whether these are here is asked before it is read.
    void check(const EngineFile &engine) const {
        const int major = cuda_.attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
        const int minor = cuda_.attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
        const int sms = cuda_.attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
        const std::string capability = std::to_string(major) + "." + std::to_string(minor);
        try {
            check_plan(engine.bytes, engine.plan, {library_.version, cuda_.name(), capability, std::to_string(sms)});
        } catch (const Error &error) {
            fail(error.status, "%s: %s", path_.c_str(), error.what());
        }
    }

    Port port(nvinfer1::TensorIOMode mode) const {
        Port found;
        for (int32_t i = 0; i < engine_->getNbIOTensors(); i++) {
            const char *name = engine_->getIOTensorName(i);
            if (engine_->getTensorIOMode(name) == mode && ++found.count == 1) {
                const Dims dims = engine_->getTensorShape(name);
                found.name = name;
                found.float32 = engine_->getTensorDataType(name) == nvinfer1::DataType::kFLOAT;
                found.sides.assign(dims.d, dims.d + std::max(0, dims.nbDims));
            }
        }
        return found;
    }

    // Of a side of the input: what it is fixed to, or what the first optimisation profile allows.
    Limits limits(const Port &input, int32_t side) const {
        if (input.sides[static_cast<size_t>(side)] > 0) {
            return {input.sides[static_cast<size_t>(side)], input.sides[static_cast<size_t>(side)]};
        }
        const Dims least = engine_->getProfileShape(input_name, 0, nvinfer1::OptProfileSelector::kMIN);
        const Dims most = engine_->getProfileShape(input_name, 0, nvinfer1::OptProfileSelector::kMAX);
        if (least.nbDims <= side || most.nbDims <= side || most.d[side] < 1) {
            fail(SIGNEDGE_BAD_FILE, "%s has no optimisation profile for its input", path_.c_str());
        }
        return {least.d[side], most.d[side]};
    }

    TensorRt library_;
    Cuda cuda_;
    Logger logger_;
    Ports ports_;
    std::string path_;
    std::unique_ptr<nvinfer1::IRuntime> runtime_;
    std::unique_ptr<nvinfer1::ICudaEngine> engine_;
    Limits batch_{}, frames_{};
    std::unique_ptr<Lender<Worker>> workers_;
#if NV_TENSORRT_MAJOR < 9
    std::mutex alone_;
#endif
};

std::string version(const std::string &library) {
    const TensorRt found(library);
    const Cuda usable;
    return found.version;
}

std::unique_ptr<Session> load(const EngineFile &engine, const SessionOptions &options) {
    return std::make_unique<TensorRtSession>(engine, options);
}

}  // namespace

extern const Backend backend_tensorrt;
const Backend backend_tensorrt = {"tensorrt", version, load};

}  // namespace signedge
