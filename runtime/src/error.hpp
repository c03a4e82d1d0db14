// What goes wrong inside the library: one exception type, which the C boundary turns into a status and a message.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <exception>
#include <string>

#include "signedge.h"

namespace signedge {

class Error : public std::exception {
public:
    Error(signedge_status status, std::string message) : status(status), message_(std::move(message)) {}
    const char *what() const noexcept override { return message_.c_str(); }
    const signedge_status status;

private:
    std::string message_;
};

#if defined(__GNUC__)
[[gnu::format(printf, 2, 3)]]
#endif
[[noreturn]] inline void
fail(signedge_status status, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    throw Error(status, text);
}

}  // namespace signedge
