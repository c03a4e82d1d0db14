// A library found and opened when it is first needed.
#pragma once

#include <initializer_list>
#include <string>

namespace signedge {

class SharedLibrary {
public:
    // Tries `given` alone if it is not empty, else the path in the environment variable, else each of the names.
    // Throws Error(SIGNEDGE_NO_BACKEND) with what was tried and the loader's words.
    SharedLibrary(const std::string &backend, const std::string &given, const char *variable,
                  std::initializer_list<const char *> names);
    // A function's address; throws Error(SIGNEDGE_NO_BACKEND) when the library lacks it.
    void *symbol(const char *name) const;
    template <typename Function>
    Function function(const char *name) const {
        return reinterpret_cast<Function>(symbol(name));
    }

private:
    void *handle_;  // never closed: inference libraries keep threads that would run in unmapped code
    std::string path_;
};

}  // namespace signedge
