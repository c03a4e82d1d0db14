// Text from strangers: whether it is UTF-8, fit for a name, and how a message shows it.
#include "text.hpp"

#include <algorithm>
#include <cstdint>

namespace signedge {
namespace {

constexpr size_t longest_name = 256;

bool is_continuation(char byte) { return (static_cast<uint8_t>(byte) & 0xc0) == 0x80; }

// Length of the code point at `at`, 0 where the bytes are none: cut off, overlong, a surrogate or beyond U+10FFFF.
size_t code_point(const std::string &text, size_t at, uint32_t &value) {
    const uint8_t first = static_cast<uint8_t>(text[at]);
    const size_t length =
        first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
    if (length == 0 || length > text.size() - at) {
        return 0;
    }
    value = length == 1 ? first : first & (0x7fu >> length);
    for (size_t i = 1; i < length; ++i) {
        if (!is_continuation(text[at + i])) {
            return 0;
        }
        value = value << 6 | (static_cast<uint8_t>(text[at + i]) & 0x3fu);
    }
    const bool overlong = (length == 3 && value < 0x800) || (length == 4 && value < 0x10000);
    const bool surrogate = value >= 0xd800 && value <= 0xdfff;
    return overlong || surrogate || value > 0x10ffff ? 0 : length;
}

bool breaks_a_line(uint32_t value) {
    return value < 0x20 || (value >= 0x7f && value <= 0x9f) || value == 0x2028 || value == 0x2029;
}

void append_escaped(std::string &out, const std::string &text) {
    static const char digits[] = "0123456789abcdef";
    for (size_t at = 0; at < text.size();) {
        uint32_t value = 0;
        const size_t length = code_point(text, at, value);
        if (length != 0 && !breaks_a_line(value)) {
            out.append(text, at, length);
            at += length;
            continue;
        }
        for (const size_t end = at + (length == 0 ? 1 : length); at < end; ++at) {
            const uint8_t byte = static_cast<uint8_t>(text[at]);
            out += {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
        }
    }
}

}  // namespace

bool is_utf8(const std::string &text) {
    for (size_t at = 0; at < text.size();) {
        uint32_t value = 0;
        const size_t length = code_point(text, at, value);
        if (length == 0) {
            return false;
        }
        at += length;
    }
    return true;
}

bool is_name(const std::string &text) {
    for (size_t at = 0; at < text.size();) {
        uint32_t value = 0;
        const size_t length = code_point(text, at, value);
        if (length == 0 || breaks_a_line(value)) {
            return false;
        }
        at += length;
    }
    return !text.empty() && text.size() <= longest_name;
}

std::string shown(const std::string &text, size_t most) {
    std::string out;
    if (text.size() <= most) {
        append_escaped(out, text);
        return out;
    }
    size_t head = most / 2, tail = text.size() - most / 2;
    while (head > 0 && is_continuation(text[head])) {
        --head;
    }
    while (tail < text.size() && is_continuation(text[tail])) {
        ++tail;
    }
    append_escaped(out, text.substr(0, head));
    out += "...";
    append_escaped(out, text.substr(tail));
    return out;
}

std::string one_line(std::string words) {
    std::replace(words.begin(), words.end(), '\n', ' ');
    return words;
}

}  // namespace signedge
