// dlopen with the search order and the errors that backends share.
#include "shared_library.hpp"

#include <dlfcn.h>
#include <link.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <vector>

#include "error.hpp"

namespace signedge {
namespace {

// Whether the file ends before the table that its head says is its last part, as one does whose copy was interrupted:
// the loader would end the process. What is no library at all, or a name to search for, is for the loader to tell.
bool is_cut_short(const std::string &path) {
    if (path.find('/') == std::string::npos) {
        return false;
    }
    std::ifstream file(path, std::ios::binary);
    ElfW(Ehdr) head;
    if (!file.read(reinterpret_cast<char *>(&head), sizeof head) || std::memcmp(head.e_ident, ELFMAG, SELFMAG) != 0) {
        return false;
    }
    file.seekg(0, std::ios::end);
    const uint64_t size = static_cast<uint64_t>(file.tellg());
    return head.e_shoff > size || size - head.e_shoff < uint64_t{head.e_shnum} * head.e_shentsize;
}

}  // namespace

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
        if (is_cut_short(path)) {
            reasons += (reasons.empty() ? "" : "; ") + path + ": the file is cut short";
            continue;
        }
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
