// What every harness holds the library to: promises are kept, and what is not taken is refused with one line that says
// why.
#pragma once

#include <cstdlib>
#include <cstring>

#include "error.hpp"

namespace fuzz {

inline void need(bool holds) {
    if (!holds) {
        std::abort();
    }
}

// Whether it was taken. A refusal must have that status.
template <typename Call>
bool take_or_refuse(signedge_status status, Call call) {
    try {
        call();
        return true;
    } catch (const signedge::Error &error) {
        need(error.status == status && *error.what() != 0 && std::strchr(error.what(), '\n') == nullptr);
        return false;
    }
}

}  // namespace fuzz
