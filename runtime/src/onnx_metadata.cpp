// The metadata of an ONNX file, found in its protobuf bytes without parsing the graph.
#include <cstring>

#include "engine_file.hpp"
#include "error.hpp"

namespace signedge {
namespace {

constexpr uint32_t metadata_props = 14;             // of ModelProto
constexpr uint32_t entry_key = 1, entry_value = 2;  // of StringStringEntryProto

enum WireType : uint32_t { varint = 0, eight_bytes = 1, counted = 2, four_bytes = 5 };

// One field after the other of a message.
class Message {
public:
    Message(const uint8_t *bytes, size_t size) : at_(bytes), end_(bytes + size) {}

    // Go to the next field; false at the end.
    bool next() {
        if (at_ == end_) {
            return false;
        }
        const uint64_t tag = read_varint();
        field = static_cast<uint32_t>(tag >> 3);
        if (tag > UINT32_MAX || field == 0) {
            broken();
        }
        is_counted = (tag & 7) == counted;
        switch (tag & 7) {
            case varint: read_varint(); break;
            case eight_bytes: take(8); break;
            case four_bytes: take(4); break;
            case counted: {
                const uint64_t count = read_varint();
                content = take(count);
                content_size = static_cast<size_t>(count);
                break;
            }
            default: broken();  // groups, which ONNX has none of
        }
        return true;
    }

    uint32_t field = 0;
    bool is_counted = false;  // then the content is that of a text or a message
    const uint8_t *content = nullptr;
    size_t content_size = 0;

private:
    uint64_t read_varint() {
        uint64_t value = 0;
        for (int shift = 0; shift < 70; shift += 7) {
            const uint8_t byte = *take(1);
            value |= static_cast<uint64_t>(byte & 0x7f) << shift;
            if (byte < 0x80) {
                return value;
            }
        }
        broken();
    }

    const uint8_t *take(uint64_t count) {
        if (count > static_cast<uint64_t>(end_ - at_)) {
            broken();
        }
        const uint8_t *taken = at_;
        at_ += count;
        return taken;
    }

    [[noreturn]] static void broken() {
        fail(SIGNEDGE_BAD_FILE, "it is not an ONNX file, or it is cut off or damaged");
    }

    const uint8_t *at_;
    const uint8_t *end_;
};

}  // namespace

bool onnx_metadata(const uint8_t *bytes, size_t size, const std::string &key, std::string &value) {
    bool found = false;
    for (Message model(bytes, size); model.next();) {
        if (model.field != metadata_props || !model.is_counted) {
            continue;
        }
        std::string its_key, its_value;
        for (Message entry(model.content, model.content_size); entry.next();) {
            if (entry.is_counted && entry.field == entry_key) {
                its_key.assign(reinterpret_cast<const char *>(entry.content), entry.content_size);
            } else if (entry.is_counted && entry.field == entry_value) {
                its_value.assign(reinterpret_cast<const char *>(entry.content), entry.content_size);
            }
        }
        if (its_key != key) {
            continue;
        }
        if (found) {
            fail(SIGNEDGE_BAD_FILE, "its metadata has '%s' twice", key.c_str());
        }
        found = true;
        value = std::move(its_value);
    }
    return found;
}

}  // namespace signedge
