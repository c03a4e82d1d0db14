// The prefixes of a beam search as a trie: what they share is kept once, and what no prefix needs any more is freed.
#pragma once

#include <cstdint>

#include "arpa.hpp"
#include "pool.hpp"

namespace signedge {

// A node, which stands for the glosses from the first one of the stream to its own.
struct Prefix {
    uint32_t gloss = 0;      // the last one; 0 before the first
    uint32_t depth = 0;      // glosses since the start; only differences count, so it may wrap
    double reward = 0;       // what language model, bonus and boosts add to the score of all these glosses
    LanguageModel::State context = 0;
    uint32_t parent = none;  // none for the root: what lies before it is final
    uint32_t child = none;   // the first; the others are its siblings
    uint32_t sibling = none;
    uint32_t uses = 0;       // children, the beam, being the root
    uint32_t place = none;   // in the beam; none when not in it
};

class PrefixTrie {
public:
    void reserve(size_t prefixes) { prefixes_.reserve(prefixes); }

    // Start again with the empty prefix. Returns it.
    uint32_t clear(LanguageModel::State context) {
        prefixes_.clear();
        Prefix empty;
        empty.context = context;
        empty.uses = 1;
        return root_ = prefixes_.add(empty);
    }

    Prefix &operator[](uint32_t index) { return prefixes_[index]; }
    const Prefix &operator[](uint32_t index) const { return prefixes_[index]; }
    uint32_t root() const { return root_; }

    // Glosses of the prefix that are not final yet.
    uint32_t undecided(uint32_t index) const { return prefixes_[index].depth - prefixes_[root_].depth; }

    // The child of the root that the prefix goes through; none for the root.
    uint32_t first(uint32_t index) const {
        uint32_t child = none;
        for (; index != root_; index = prefixes_[index].parent) {
            child = index;
        }
        return child;
    }

    // The prefix that goes on with the gloss; it is made when it is not there.
    uint32_t extend(uint32_t parent, uint32_t gloss, double reward, LanguageModel::State context) {
        for (uint32_t child = prefixes_[parent].child; child != none; child = prefixes_[child].sibling) {
            if (prefixes_[child].gloss == gloss) {
                return child;
            }
        }
        Prefix made;
        made.gloss = gloss;
        made.depth = prefixes_[parent].depth + 1;
        made.reward = reward;
        made.context = context;
        made.parent = parent;
        made.sibling = prefixes_[parent].child;
        const uint32_t index = prefixes_.add(made);
        prefixes_[parent].child = index;
        prefixes_[parent].uses++;
        return index;
    }

    void retain(uint32_t index) { prefixes_[index].uses++; }

    // Frees the prefix, and those before it, when nothing else needs them.
    void release(uint32_t index) {
        while (--prefixes_[index].uses == 0) {
            const uint32_t parent = prefixes_[index].parent;
            if (parent == none) {
                prefixes_.free(index);
                return;
            }
            unlink(parent, index);
            prefixes_.free(index);
            index = parent;
        }
    }

    // The child that every prefix in the beam goes through; none when the root is in the beam or they part there.
    uint32_t common() const {
        const uint32_t child = prefixes_[root_].child;
        const bool alone = child != none && prefixes_[child].sibling == none;
        return alone && prefixes_[root_].place == none ? child : none;
    }

    // Make the only child of the root the root.
    void advance_root() {
        const uint32_t old = root_;
        root_ = prefixes_[old].child;
        prefixes_[root_].parent = none;
        retain(root_);
        prefixes_.free(old);
    }

private:
    void unlink(uint32_t parent, uint32_t child) {
        uint32_t *link = &prefixes_[parent].child;
        while (*link != child) {
            link = &prefixes_[*link].sibling;
        }
        *link = prefixes_[child].sibling;
    }

    Pool<Prefix> prefixes_;
    uint32_t root_ = none;
};

}  // namespace signedge
