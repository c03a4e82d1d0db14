// What every reader of files promises: it takes the bytes, or refuses them with one line that says why.
#pragma once

#include <cstdlib>
#include <cstring>

#include "error.hpp"

namespace fuzz {

template <typename Read>
void take_or_refuse(Read read) {
    try {
        read();
    } catch (const signedge::Error &error) {
        if (error.status != SIGNEDGE_BAD_FILE || *error.what() == 0 || std::strchr(error.what(), '\n')) {
            std::abort();
        }
    }
}

}  // namespace fuzz
