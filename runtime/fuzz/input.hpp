// The fuzzer's bytes, read as numbers; zeros when they are used up.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace fuzz {

class Input {
public:
    Input(const uint8_t *data, size_t size) : data_(data), left_(size) {}

    template <typename Value>
    Value take() {
        Value value{};
        const size_t size = left_ < sizeof value ? left_ : sizeof value;
        std::memcpy(&value, data_, size);
        data_ += size;
        left_ -= size;
        return value;
    }
    // From least to most.
    uint32_t between(uint32_t least, uint32_t most) { return least + take<uint16_t>() % (most - least + 1); }
    bool one_in(uint8_t count) { return take<uint8_t>() % count == count - 1; }
    bool is_empty() const { return left_ == 0; }

private:
    const uint8_t *data_;
    size_t left_;
};

}  // namespace fuzz
