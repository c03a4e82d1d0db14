// The CUDA driver: what is used of it, opened when it is needed, and memory on its first device. Untested on hardware.
#pragma once

#include <cuda.h>

#include "error.hpp"
#include "shared_library.hpp"

namespace signedge {

// The driver and that context of its first device which all of a process share.
class Cuda {
public:
    Cuda() : library_("CUDA", "", "SIGNEDGE_CUDA_LIBRARY", {"libcuda.so.1"}) {
        get(error_words, "cuGetErrorString");
        get(allocate, "cuMemAlloc_v2");
        get(free, "cuMemFree_v2");
        get(copy_in, "cuMemcpyHtoDAsync_v2");
        get(copy_out, "cuMemcpyDtoHAsync_v2");
        get(create_stream, "cuStreamCreate");
        get(destroy_stream, "cuStreamDestroy_v2");
        get(wait, "cuStreamSynchronize");
        get(begin_capture, "cuStreamBeginCapture_v2");
        get(end_capture, "cuStreamEndCapture");
        get(make_executable, "cuGraphInstantiateWithFlags");
        get(destroy_graph, "cuGraphDestroy");
        get(destroy_executable, "cuGraphExecDestroy");
        get(launch, "cuGraphLaunch");
        get(push_, "cuCtxPushCurrent_v2");
        get(pop_, "cuCtxPopCurrent_v2");
        get(release_, "cuDevicePrimaryCtxRelease_v2");
        start(library_.function<decltype(&cuInit)>("cuInit")(0));
        start(library_.function<decltype(&cuDeviceGet)>("cuDeviceGet")(&device_, 0));
        start(library_.function<decltype(&cuDevicePrimaryCtxRetain)>("cuDevicePrimaryCtxRetain")(&context_, device_));
    }
    ~Cuda() { release_(device_); }

    // The device as drivers name it, and a number that they know of it.
    std::string name() const {
        char text[256] = "";
        start(library_.function<decltype(&cuDeviceGetName)>("cuDeviceGetName")(text, sizeof text, device_));
        return text;
    }
    int attribute(CUdevice_attribute which) const {
        int value = 0;
        start(library_.function<decltype(&cuDeviceGetAttribute)>("cuDeviceGetAttribute")(&value, which, device_));
        return value;
    }
    Cuda(const Cuda &) = delete;
    Cuda &operator=(const Cuda &) = delete;

    void check(CUresult result) const {
        if (result != CUDA_SUCCESS) {
            fail(SIGNEDGE_BACKEND_FAILED, "CUDA: %s", words(result));
        }
    }

    // Makes the device the calling thread's, and leaves the thread as it was.
    class Current {
    public:
        explicit Current(const Cuda &cuda) : cuda_(cuda) { cuda_.push_(cuda_.context_); }
        ~Current() {
            CUcontext ours = nullptr;
            cuda_.pop_(&ours);
        }
        Current(const Current &) = delete;
        Current &operator=(const Current &) = delete;

    private:
        const Cuda &cuda_;
    };

    decltype(&cuGetErrorString) error_words;
    decltype(&cuMemAlloc_v2) allocate;
    decltype(&cuMemFree_v2) free;
    decltype(&cuMemcpyHtoDAsync_v2) copy_in;
    decltype(&cuMemcpyDtoHAsync_v2) copy_out;
    decltype(&cuStreamCreate) create_stream;
    decltype(&cuStreamDestroy_v2) destroy_stream;
    decltype(&cuStreamSynchronize) wait;
    decltype(&cuStreamBeginCapture_v2) begin_capture;
    decltype(&cuStreamEndCapture) end_capture;
    decltype(&cuGraphInstantiateWithFlags) make_executable;
    decltype(&cuGraphDestroy) destroy_graph;
    decltype(&cuGraphExecDestroy) destroy_executable;
    decltype(&cuGraphLaunch) launch;

private:
    template <typename Function>
    void get(Function &function, const char *name) {
        function = library_.function<Function>(name);
    }
    void start(CUresult result) const {
        if (result != CUDA_SUCCESS) {
            fail(SIGNEDGE_NO_BACKEND, "no GPU can be used: %s", words(result));
        }
    }
    const char *words(CUresult result) const {
        const char *found = nullptr;
        error_words(result, &found);
        return found ? found : "an unknown error";
    }

    SharedLibrary library_;
    decltype(&cuCtxPushCurrent_v2) push_;
    decltype(&cuCtxPopCurrent_v2) pop_;
    decltype(&cuDevicePrimaryCtxRelease_v2) release_;
    CUdevice device_ = 0;
    CUcontext context_ = nullptr;
};

// Device memory that grows.
class Buffer {
public:
    explicit Buffer(const Cuda &cuda) : cuda_(cuda) {}
    ~Buffer() { free(); }
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;

    void reserve(size_t bytes) {
        if (bytes <= size_) {
            return;
        }
        free();
        cuda_.check(cuda_.allocate(&address, bytes));
        size_ = bytes;
    }

    CUdeviceptr address = 0;

private:
    void free() {
        if (address) {
            cuda_.free(address);
        }
        address = 0;
        size_ = 0;
    }

    const Cuda &cuda_;
    size_t size_ = 0;
};

}  // namespace signedge
