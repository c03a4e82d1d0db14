// From a path to a model that runs.
#include "model.hpp"

#include <sched.h>

#include <algorithm>
#include <thread>

#include "error.hpp"
#include "text.hpp"

namespace signedge {

const Backend *find_backend(const std::string &name) {
    for (const Backend *const *backend = backends; *backend; backend++) {
        if (name == (*backend)->name) {
            return *backend;
        }
    }
    return nullptr;
}

namespace {

// A backend that refuses an engine does so in its own words: say whose engine.
std::unique_ptr<Session> load(const Backend &backend, const EngineFile &engine, const SessionOptions &options) {
    try {
        return backend.load(engine, options);
    } catch (const Error &error) {
        if (error.status != SIGNEDGE_BACKEND_FAILED) {
            throw;
        }
        fail(error.status, "%s: %s", shown(engine.path, 400).c_str(), error.what());
    }
}

// Cores that this process may use.
int available_cores() {
    cpu_set_t cores;
    if (sched_getaffinity(0, sizeof cores, &cores) == 0) {
        return std::max(1, CPU_COUNT(&cores));
    }
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace

std::shared_ptr<Model> open_model(const std::string &path, const ModelOptions &options) {
    EngineFile engine = open_engine(path);
    const std::string name = options.backend.empty() ? engine.runtime : options.backend;
    const Backend *backend = find_backend(name);
    if (!backend) {
        fail(SIGNEDGE_NO_BACKEND, "this build of signedge has no backend '%s' for %s", shown(name).c_str(),
             shown(path, 400).c_str());
    }
    SessionOptions session;
    session.threads = options.threads > 0 ? options.threads : available_cores();
    session.library = options.library;
    session.log = options.log;
    auto model = std::make_shared<Model>();
    model->session = load(*backend, engine, session);
    model->contract = std::move(engine.contract);
    model->workers = std::make_unique<Workers>(static_cast<uint32_t>(options.workers));
    model->backend = model->session->description();
    options.log(SIGNEDGE_LOG_INFO, ("opened " + shown(path, 400) + " with " + model->backend).c_str());
    return model;
}

}  // namespace signedge
