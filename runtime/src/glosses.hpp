// Glosses on their way to the caller: into an array of his, whose elements have the size that his program knows.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "decoder.hpp"
#include "error.hpp"

namespace signedge {

// A token as the caller sees it, without times of the clock.
inline signedge_gloss to_gloss(const Token &token, uint32_t flags, float stability) {
    signedge_gloss gloss{};
    gloss.id = token.id;
    gloss.flags = flags;
    gloss.start_step = token.start;
    gloss.end_step = token.end;
    gloss.confidence = token.confidence;
    gloss.stability = stability;
    return gloss;
}

class GlossArray {
public:
    GlossArray(signedge_gloss *items, uint32_t item_size, uint32_t capacity)
        : bytes_(reinterpret_cast<uint8_t *>(items)), item_size_(item_size), capacity_(capacity) {
        if (capacity > 0 && !items) {
            fail(SIGNEDGE_INVALID_ARGUMENT, "glosses is NULL");
        }
        if (capacity > 0 && (item_size < sizeof(uint32_t) || item_size > 4096 || item_size % alignof(signedge_gloss))) {
            fail(SIGNEDGE_INVALID_ARGUMENT, "item_size is %u: give sizeof(signedge_gloss)", item_size);
        }
    }

    uint32_t capacity() const { return capacity_; }

    // Element number `index`, if there is room for it; what this version does not know of it is zero.
    void put(uint32_t index, const signedge_gloss &gloss) const {
        if (index < capacity_) {
            uint8_t *item = bytes_ + uint64_t{index} * item_size_;
            std::memset(item, 0, item_size_);
            std::memcpy(item, &gloss, std::min<size_t>(item_size_, sizeof gloss));
        }
    }

private:
    uint8_t *bytes_;
    uint32_t item_size_, capacity_;
};

// Puts final glosses that wait for room, oldest first, from number `taken` on; those that fit are taken. Returns how
// many there were.
template <typename Item, typename Convert>
uint32_t hand_out(std::vector<Item> &waiting, size_t &taken, const GlossArray &out, Convert convert) {
    const uint32_t count = static_cast<uint32_t>(waiting.size() - taken), fitting = std::min(count, out.capacity());
    for (uint32_t i = 0; i < fitting; i++) {
        out.put(i, convert(waiting[taken + i]));
    }
    taken += fitting;
    if (taken == waiting.size()) {
        waiting.clear();
        taken = 0;
    }
    return count;
}

}  // namespace signedge
