// What must be known of an ONNX file before a backend gets it, read from its protobuf bytes.
#include <algorithm>
#include <iterator>

#include "engine_file.hpp"
#include "error.hpp"

namespace signedge {
namespace {

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
        type = tag & 7;
        if (tag > UINT32_MAX || field == 0) {
            broken();
        }
        switch (type) {
            case varint: number = read_varint(); break;
            case eight_bytes: take(8); break;
            case four_bytes: take(4); break;
            case counted: {
                const uint64_t count = read_varint();
                content = take(count);
                size = static_cast<size_t>(count);
                break;
            }
            default: broken();  // groups, which ONNX has none of
        }
        return true;
    }

    std::string text() const { return std::string(reinterpret_cast<const char *>(content), size); }

    [[noreturn]] static void broken() { fail(SIGNEDGE_BAD_FILE, "it is not an ONNX file, or it is cut off or damaged"); }

    uint32_t field = 0;
    uint32_t type = varint;
    uint64_t number = 0;               // of a varint
    const uint8_t *content = nullptr;  // of a counted field: a text or a message
    size_t size = 0;

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

    const uint8_t *at_;
    const uint8_t *end_;
};

// The kinds of messages on the way from a model to its tensors, by onnx.proto's field numbers.
enum class Kind { model, graph, function, node, attribute, sparse_tensor, tensor };

struct Way {
    Kind from;
    uint32_t field;
    Kind to;
};
constexpr Way ways[] = {
    {Kind::model, 7, Kind::graph},
    {Kind::model, 25, Kind::function},
    {Kind::graph, 1, Kind::node},
    {Kind::graph, 5, Kind::tensor},
    {Kind::graph, 15, Kind::sparse_tensor},
    {Kind::function, 7, Kind::node},
    {Kind::function, 11, Kind::attribute},
    {Kind::node, 5, Kind::attribute},
    {Kind::attribute, 5, Kind::tensor},
    {Kind::attribute, 6, Kind::graph},
    {Kind::attribute, 10, Kind::tensor},
    {Kind::attribute, 11, Kind::graph},
    {Kind::attribute, 22, Kind::sparse_tensor},
    {Kind::attribute, 23, Kind::sparse_tensor},
    {Kind::sparse_tensor, 1, Kind::tensor},
    {Kind::sparse_tensor, 2, Kind::tensor},
};
constexpr uint32_t data_location = 14, external = 1;  // of TensorProto
constexpr int deepest = 64;

bool has_external_data(Kind kind, const uint8_t *bytes, size_t size, int depth) {
    if (depth > deepest) {
        Message::broken();
    }
    for (Message message(bytes, size); message.next();) {
        const bool says_where = kind == Kind::tensor && message.field == data_location && message.type == varint;
        if (says_where && message.number == external) {
            return true;
        }
        const Way *way = std::find_if(std::begin(ways), std::end(ways), [&](const Way &candidate) {
            return candidate.from == kind && candidate.field == message.field;
        });
        if (way != std::end(ways) && message.type == counted &&
            has_external_data(way->to, message.content, message.size, depth + 1)) {
            return true;
        }
    }
    return false;
}

}  // namespace

bool onnx_has_external_data(const uint8_t *bytes, size_t size) {
    return has_external_data(Kind::model, bytes, size, 0);
}

bool onnx_metadata(const uint8_t *bytes, size_t size, const std::string &key, std::string &value) {
    constexpr uint32_t metadata_props = 14;             // of ModelProto
    constexpr uint32_t entry_key = 1, entry_value = 2;  // of StringStringEntryProto
    bool found = false;
    for (Message model(bytes, size); model.next();) {
        if (model.field != metadata_props || model.type != counted) {
            continue;
        }
        std::string its_key, its_value;
        for (Message entry(model.content, model.size); entry.next();) {
            if (entry.type == counted && entry.field == entry_key) {
                its_key = entry.text();
            } else if (entry.type == counted && entry.field == entry_value) {
                its_value = entry.text();
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
