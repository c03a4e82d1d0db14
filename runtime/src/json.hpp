// A strict reader of JSON (RFC 8259) for text that strangers may have written: an immutable tree of bounded size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace signedge {

class Json {
public:
    struct Member;
    using Array = std::vector<Json>;
    using Object = std::vector<Member>;  // in the order of the text

    Json() = default;  // null
    template <typename Value>
    explicit Json(Value value) : value_(std::move(value)) {}

    // The value if it is of that kind, else NULL. A number without fraction and exponent that fits is an integer.
    bool null() const { return std::holds_alternative<std::monostate>(value_); }
    const bool *boolean() const { return std::get_if<bool>(&value_); }
    const int64_t *integer() const { return std::get_if<int64_t>(&value_); }
    const double *real() const { return std::get_if<double>(&value_); }
    const std::string *text() const { return std::get_if<std::string>(&value_); }
    const Array *array() const { return std::get_if<Array>(&value_); }
    const Object *object() const { return std::get_if<Object>(&value_); }

    const Json *find(const char *name) const;  // a member; NULL where there is none, or this is no object
    const char *kind() const;                  // "a text", "null", ... for messages

private:
    std::variant<std::monostate, bool, int64_t, double, std::string, Array, Object> value_;
};

struct Json::Member {
    std::string name;
    Json value;
};

constexpr size_t longest_json = size_t{16} << 20;  // bytes

// Parse one value. `what` begins the message ("the contract"). Throws Error(SIGNEDGE_BAD_FILE), with the byte, for what
// is not JSON in UTF-8, names a member twice, is nested deeper than 64, holds over a million values or is longer.
Json parse_json(const std::string &text, const char *what);

}  // namespace signedge
