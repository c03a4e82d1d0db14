// What runs an engine. A backend is one file in backends/ that defines `const Backend backend_<name>`; CMake lists them.
// The shared library behind it is loaded when the first engine needs it: signedge itself links none.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "engine_file.hpp"

namespace signedge {

using Log = std::function<void(int32_t level, const char *message)>;

struct SessionOptions {
    int threads = 1;      // resolved: 1 or more
    std::string library;  // path given by the caller, or empty
    Log log;              // never empty
};

// A loaded engine. `run` may be called by several threads at once.
class Session {
public:
    virtual ~Session() = default;
    // input (batch, frames, ...) float32, packed; log_probs has room for exactly (batch, steps, classes).
    // Throws Error(SIGNEDGE_BACKEND_FAILED), also when the network's output has another shape.
    virtual void run(const float *input, int64_t batch, int64_t frames, float *log_probs, int64_t steps) = 0;
    // Whether a batch may hold more than one clip.
    virtual bool batches() const = 0;
    // Name and version of what runs it: "onnxruntime 1.31.1".
    virtual std::string description() const = 0;
};

struct Backend {
    const char *name;
    // Version of the library that would be used; throws Error(SIGNEDGE_NO_BACKEND) that says why there is none.
    std::string (*version)(const std::string &library);
    std::unique_ptr<Session> (*load)(const EngineFile &engine, const SessionOptions &options);
};

// Every backend of this build, NULL at the end.
extern const Backend *const backends[];
const Backend *find_backend(const std::string &name);  // NULL when there is none of that name

}  // namespace signedge
