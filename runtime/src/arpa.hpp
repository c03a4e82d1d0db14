// An n-gram language model over glosses, read from ARPA text.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace signedge {

// Immutable. Memory is a small multiple of the text's size.
class LanguageModel {
public:
    // Throws Error(SIGNEDGE_BAD_FILE) with the line that is wrong.
    static std::unique_ptr<LanguageModel> read(const std::string &path);
    // `name` is what messages call the text.
    static std::unique_ptr<LanguageModel> parse(const char *text, size_t size, const std::string &name);

    using State = uint32_t;  // context; small, comparable: equal states have equal futures
    uint32_t word(const std::string &gloss) const;  // index; of <unk> when unknown
    State begin() const { return begin_; }          // after <s>
    // Natural-log probability of the word after the state, and the state after it (back-off done).
    float score(State state, uint32_t word, State &next) const;
    float end(State state) const;  // of </s>

private:
    friend class ArpaReader;

    // An n-gram. They lie by order, then by the n-gram before the last word, then by the last word, so that those which
    // continue an n-gram lie together: from its `first` to that of its neighbour. Number 0 is the empty n-gram.
    struct Ngram {
        float probability, backoff;  // natural log
        uint32_t word;               // the last
        uint32_t suffix;             // longest n-gram that ends this one and matters for what follows
        uint32_t first;
    };
    uint32_t find(State context, uint32_t word) const;
    // Whether what follows depends on it.
    bool matters(uint32_t ngram) const {
        return ngrams_[ngram].backoff != 0 || ngrams_[ngram].first != ngrams_[ngram + 1].first;
    }

    std::unordered_map<std::string, uint32_t> words_;
    std::vector<Ngram> ngrams_;  // and one more, where the last one's continuations end
    State begin_ = 0;
    uint32_t end_word_ = 0;
};

}  // namespace signedge
