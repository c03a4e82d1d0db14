// A strict reader of JSON (RFC 8259) for text that strangers may have written: an immutable tree of bounded size.
#include "json.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "error.hpp"
#include "text.hpp"

namespace signedge {
namespace {

constexpr size_t most_values = size_t{1} << 20;
constexpr int deepest = 64;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

void append_utf8(std::string &out, uint32_t value) {
    auto byte = [&out](uint32_t bits) { out += static_cast<char>(bits); };
    if (value < 0x80) {
        byte(value);
    } else if (value < 0x800) {
        byte(0xc0 | value >> 6);
        byte(0x80 | (value & 0x3f));
    } else if (value < 0x10000) {
        byte(0xe0 | value >> 12);
        byte(0x80 | (value >> 6 & 0x3f));
        byte(0x80 | (value & 0x3f));
    } else {
        byte(0xf0 | value >> 18);
        byte(0x80 | (value >> 12 & 0x3f));
        byte(0x80 | (value >> 6 & 0x3f));
        byte(0x80 | (value & 0x3f));
    }
}

class Reader {
public:
    Reader(const std::string &text, const char *what)
        : what_(what), begin_(text.data()), at_(begin_), end_(begin_ + text.size()) {}

    Json document() {
        Json json = value(0);
        skip_space();
        if (at_ != end_) {
            wrong("something follows the value");
        }
        return json;
    }

private:
    Json value(int depth) {
        if (depth > deepest) {
            wrong("it is nested too deep");
        }
        if (++values_ > most_values) {
            wrong("it holds too many values");
        }
        skip_space();
        switch (peek()) {
            case '{': return object(depth);
            case '[': return array(depth);
            case '"': return Json(string());
            case 't': return literal("true"), Json(true);
            case 'f': return literal("false"), Json(false);
            case 'n': return literal("null"), Json();
            default: return number();
        }
    }

    Json object(int depth) {
        Json::Object members;
        ++at_;
        if (!ends_with('}')) {
            do {
                skip_space();
                if (peek() != '"') {
                    wrong("a name in quotes was expected");
                }
                std::string name = string();
                skip_space();
                expect(':', "':' was expected");
                members.push_back({std::move(name), value(depth + 1)});
            } while (goes_on('}', "',' or '}' was expected"));
        }
        check_distinct(members);
        return Json(std::move(members));
    }

    Json array(int depth) {
        Json::Array items;
        ++at_;
        if (!ends_with(']')) {
            do {
                items.push_back(value(depth + 1));
            } while (goes_on(']', "',' or ']' was expected"));
        }
        return Json(std::move(items));
    }

    std::string string() {
        std::string out;
        for (++at_; peek() != '"';) {
            if (*at_ == '\\') {
                ++at_;
                escape(out);
            } else if (static_cast<uint8_t>(*at_) < 0x20) {
                wrong("a control character stands in a text");
            } else {
                out += *at_++;
            }
        }
        ++at_;
        return out;
    }

    void escape(std::string &out) {
        static const char names[] = "\"\\/bfnrt", characters[] = "\"\\/\b\f\n\r\t";
        const char name = peek();
        if (name == 'u') {
            ++at_;
            return append_utf8(out, escaped_code_point());
        }
        const char *found = name ? std::strchr(names, name) : nullptr;
        if (!found) {
            wrong("an unknown escape stands in a text");
        }
        out += characters[found - names];
        ++at_;
    }

    uint32_t escaped_code_point() {
        const uint32_t first = four_digits();
        if (first < 0xd800 || first > 0xdfff) {
            return first;
        }
        const bool pair = first < 0xdc00 && end_ - at_ >= 2 && at_[0] == '\\' && at_[1] == 'u';
        if (pair) {
            at_ += 2;
            const uint32_t second = four_digits();
            if (second >= 0xdc00 && second <= 0xdfff) {
                return 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            }
        }
        wrong("half a surrogate pair stands in a text");
    }

    uint32_t four_digits() {
        uint32_t value = 0;
        const char *stop = at_ + std::min<ptrdiff_t>(4, end_ - at_);
        const std::from_chars_result result = std::from_chars(at_, stop, value, 16);
        if (result.ptr != at_ + 4) {
            wrong("four hexadecimal digits were expected");
        }
        at_ += 4;
        return value;
    }

    Json number() {
        const char *start = at_;
        if (peek() == '-') {
            ++at_;
        }
        if (at_ != end_ && *at_ == '0') {
            ++at_;
        } else {
            digits();
        }
        const char *whole = at_;
        if (at_ != end_ && *at_ == '.') {
            ++at_;
            digits();
        }
        if (at_ != end_ && (*at_ == 'e' || *at_ == 'E')) {
            ++at_;
            if (at_ != end_ && (*at_ == '+' || *at_ == '-')) {
                ++at_;
            }
            digits();
        }
        int64_t integer = 0;
        if (at_ == whole && std::from_chars(start, at_, integer).ec == std::errc()) {
            return Json(integer);
        }
        double real = 0;
        if (std::from_chars(start, at_, real).ec != std::errc()) {
            wrong("a number is out of range");
        }
        return Json(real);
    }

    void digits() {
        const char *start = at_;
        while (at_ != end_ && is_digit(*at_)) {
            ++at_;
        }
        if (at_ == start) {
            wrong(start == end_ ? "it ends too early" : "a value was expected");
        }
    }

    void literal(const char *word) {
        const size_t length = std::strlen(word);
        if (static_cast<size_t>(end_ - at_) < length || std::memcmp(at_, word, length) != 0) {
            wrong("a value was expected");
        }
        at_ += length;
    }

    void check_distinct(const Json::Object &members) {
        std::vector<const std::string *> names;
        names.reserve(members.size());
        for (const Json::Member &member : members) {
            names.push_back(&member.name);
        }
        std::sort(names.begin(), names.end(), [](auto *a, auto *b) { return *a < *b; });
        const auto same = std::adjacent_find(names.begin(), names.end(), [](auto *a, auto *b) { return *a == *b; });
        if (same != names.end()) {
            wrong(("'" + shown(**same, 60) + "' is named twice").c_str());
        }
    }

    bool goes_on(char closing, const char *otherwise) {
        skip_space();
        if (peek() == ',') {
            ++at_;
            return true;
        }
        expect(closing, otherwise);
        return false;
    }

    bool ends_with(char closing) {
        skip_space();
        if (peek() != closing) {
            return false;
        }
        ++at_;
        return true;
    }

    void expect(char character, const char *otherwise) {
        if (peek() != character) {
            wrong(otherwise);
        }
        ++at_;
    }

    char peek() {
        if (at_ == end_) {
            wrong("it ends too early");
        }
        return *at_;
    }

    void skip_space() {
        while (at_ != end_ && (*at_ == ' ' || *at_ == '\t' || *at_ == '\n' || *at_ == '\r')) {
            ++at_;
        }
    }

    [[noreturn]] void wrong(const char *reason) const {
        fail(SIGNEDGE_BAD_FILE, "%s is not JSON: %s (byte %zu)", what_, reason, static_cast<size_t>(at_ - begin_));
    }

    const char *what_;
    const char *begin_;
    const char *at_;
    const char *end_;
    size_t values_ = 0;
};

}  // namespace

const Json *Json::find(const char *name) const {
    const Object *members = object();
    if (!members) {
        return nullptr;
    }
    auto is_meant = [name](const Member &member) { return member.name == name; };
    const auto found = std::find_if(members->begin(), members->end(), is_meant);
    return found == members->end() ? nullptr : &found->value;
}

const char *Json::kind() const {
    static const char *const kinds[] = {"null",   "true or false", "a whole number", "a number",
                                        "a text", "a list",        "an object"};
    return kinds[value_.index()];
}

Json parse_json(const std::string &text, const char *what) {
    if (text.size() > longest_json) {
        fail(SIGNEDGE_BAD_FILE, "%s is not used: it has %zu bytes, more than %zu", what, text.size(), longest_json);
    }
    if (!is_utf8(text)) {
        fail(SIGNEDGE_BAD_FILE, "%s is not JSON: it is not UTF-8", what);
    }
    return Reader(text, what).document();
}

}  // namespace signedge
