// dlopen with the search order and the errors that backends share.
#include "shared_library.hpp"

#include <dlfcn.h>

#include <cstdlib>
#include <vector>

#include "error.hpp"

namespace signedge {

SharedLibrary::SharedLibrary(const std::string &backend, const std::string &given, const char *variable,
                             std::initializer_list<const char *> names)
    : handle_(nullptr) {
    std::vector<std::string> tried;
    const char *from_environment = std::getenv(variable);
    if (!given.empty()) {
        tried.push_back(given);
    } else if (from_environment && *from_environment) {
        tried.emplace_back(from_environment);
    } else {
        tried.assign(names.begin(), names.end());
    }
    std::string reasons;
    for (const std::string &path : tried) {
        handle_ = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (handle_) {
            path_ = path;
            return;
        }
        const char *reason = dlerror();
        reasons += (reasons.empty() ? "" : "; ") + std::string(reason ? reason : path);
    }
    fail(SIGNEDGE_NO_BACKEND, "the library of %s was not found (give its path as `library` or in %s): %s",
         backend.c_str(), variable, reasons.c_str());
}

void *SharedLibrary::symbol(const char *name) const {
    void *address = dlsym(handle_, name);
    if (!address) {
        fail(SIGNEDGE_NO_BACKEND, "%s has no %s: it is not the library, or of a version, that signedge knows",
             path_.c_str(), name);
    }
    return address;
}

}  // namespace signedge
