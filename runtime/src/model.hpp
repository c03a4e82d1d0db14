// A model: an engine's contract and the session that runs it. Immutable once made, shared by streams and threads.
#pragma once

#include <memory>
#include <string>

#include "backend.hpp"
#include "workers.hpp"

namespace signedge {

struct ModelOptions {
    int threads = 0;  // inside one run; 0: every core that this process may use
    int workers = 1;  // runs at once when streams are stepped together
    std::string backend, library;
    Log log;
};

struct Model {
    Contract contract;
    std::unique_ptr<Session> session;
    std::unique_ptr<Workers> workers;
    std::string backend;  // name and version
};

// Open, check and load; throws Error.
std::shared_ptr<Model> open_model(const std::string &path, const ModelOptions &options);

}  // namespace signedge
