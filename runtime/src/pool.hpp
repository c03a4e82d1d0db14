// Items that come and go by index: what is freed is taken again first, so that a steady load asks for no memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace signedge {

constexpr uint32_t none = UINT32_MAX;

template <typename Item>
class Pool {
public:
    void reserve(size_t items) {
        items_.reserve(items);
        free_.reserve(items);
    }

    void clear() {
        items_.clear();
        free_.clear();
    }

    uint32_t add(const Item &item) {
        if (free_.empty()) {
            items_.push_back(item);
            return static_cast<uint32_t>(items_.size() - 1);
        }
        const uint32_t index = free_.back();
        free_.pop_back();
        items_[index] = item;
        return index;
    }

    void free(uint32_t index) { free_.push_back(index); }

    Item &operator[](uint32_t index) { return items_[index]; }
    const Item &operator[](uint32_t index) const { return items_[index]; }

private:
    std::vector<Item> items_;
    std::vector<uint32_t> free_;
};

}  // namespace signedge
