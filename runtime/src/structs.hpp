// Structs that cross the C boundary: read and written no further than the size that the caller's program knows.
#pragma once

#include <algorithm>
#include <cstring>

#include "error.hpp"

namespace signedge {

// A copy in this version's size: what the caller's lacks is zero. A caller from the future may have more fields, as long
// as it leaves them at their defaults.
template <typename Struct>
Struct read_struct(const Struct *given, const char *name) {
    constexpr uint32_t largest = 4096;
    Struct copy{};
    if (given) {
        const uint32_t size = given->struct_size;
        if (size < sizeof(uint32_t) || size > largest) {
            fail(SIGNEDGE_INVALID_ARGUMENT, "%s.struct_size is %u: set it to sizeof(%s)", name, size, name);
        }
        std::memcpy(&copy, given, std::min<size_t>(size, sizeof copy));
        const auto *bytes = reinterpret_cast<const uint8_t *>(given);
        if (size > sizeof copy && std::any_of(bytes + sizeof copy, bytes + size, [](uint8_t b) { return b != 0; })) {
            fail(SIGNEDGE_UNSUPPORTED, "%s sets a field that this version of libsignedge does not know", name);
        }
    }
    copy.struct_size = sizeof copy;
    return copy;
}

template <typename Struct>
void write_struct(Struct values, Struct *out, const char *name) {
    if (!out || out->struct_size < sizeof(uint32_t)) {
        fail(SIGNEDGE_INVALID_ARGUMENT, "%s is NULL or its struct_size is not set", name);
    }
    values.struct_size = out->struct_size;
    std::memcpy(out, &values, std::min<size_t>(out->struct_size, sizeof values));
}

}  // namespace signedge
