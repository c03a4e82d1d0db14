// Language model: the queries. Each n-gram knows the longest shorter one that ends it, so that backing off is a walk.
#include "arpa.hpp"

#include <algorithm>

namespace signedge {

uint32_t LanguageModel::word(const std::string &gloss) const {
    const auto found = words_.find(gloss);
    return found == words_.end() ? 0 : found->second;
}

// The n-gram that the word makes of its context; 0 when the model has none. Every word is a 1-gram.
uint32_t LanguageModel::find(State context, uint32_t word) const {
    if (context == 0) {
        return 1 + word;
    }
    const auto first = ngrams_.begin() + ngrams_[context].first, last = ngrams_.begin() + ngrams_[context + 1].first;
    const auto found =
        std::lower_bound(first, last, word, [](const Ngram &ngram, uint32_t sought) { return ngram.word < sought; });
    return found != last && found->word == word ? static_cast<uint32_t>(found - ngrams_.begin()) : 0;
}

float LanguageModel::score(State state, uint32_t word, State &next) const {
    float backoff = 0;
    uint32_t ngram = find(state, word);
    while (ngram == 0) {
        backoff += ngrams_[state].backoff;
        state = ngrams_[state].suffix;
        ngram = find(state, word);
    }
    next = matters(ngram) ? ngram : ngrams_[ngram].suffix;
    return std::min(backoff + ngrams_[ngram].probability, 0.0f);
}

float LanguageModel::end(State state) const {
    State next;
    return score(state, end_word_, next);
}

}  // namespace signedge
