// Text from strangers: whether it is UTF-8, fit for a name, and how a message shows it.
#pragma once

#include <cstddef>
#include <string>

namespace signedge {

bool is_utf8(const std::string &text);

// 1 to 256 bytes of UTF-8 without control characters or line breaks: fit for captions, tables and C strings.
bool is_name(const std::string &text);

// The text as one line of UTF-8 for a message: control characters and broken bytes as \xNN, the middle of a long one as
// "...", so that about `most` bytes of it are left.
std::string shown(const std::string &text, size_t most = 160);

// The words of another library as one line for a message: its line breaks are spaces.
std::string one_line(std::string words);

}  // namespace signedge
