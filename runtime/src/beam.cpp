// CTC prefix beam search, online: a prefix' score is the sum over all its alignments, in the log domain.
//
// What survives a step: the beam_width best prefixes, those more than beam_threshold below the best left out. Of equals
// goes first what comes from the better prefix of the step before, then the prefix itself before its extensions, then
// the lower class. At a step where nothing is possible (not a number in every class) a certain blank is assumed.
//
// A gloss becomes final when all prefixes share it, it is over in the best alignment, and no alignment has begun the
// next gloss before its end, so that spans never overlap. Prefixes that differ in one old gloss alone score alike from
// then on, so that none of them may ever leave the beam. Therefore, when the best prefix has more than 32 glosses that
// are not final, the first of them is settled: prefixes without it, or that began the next one before its end, are
// dropped. So are prefixes with more than 64.
#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>

#include "alignment.hpp"
#include "arpa.hpp"
#include "decoder.hpp"
#include "error.hpp"
#include "likely_classes.hpp"
#include "posterior.hpp"
#include "prefix_trie.hpp"
#include "text.hpp"

namespace signedge {

namespace {

constexpr double slack = 1e-6;  // bounds are computed in another order than scores

double log_add(double a, double b) {
    const double high = std::max(a, b), low = std::min(a, b);
    return low == impossible ? high : high + std::log1p(std::exp(low - high));
}

// A prefix in the beam. Probabilities are logs, over all alignments that end in a blank or in the prefix' last gloss.
struct Entry {
    uint32_t prefix = none;
    double blank = impossible, label = impossible, total = impossible;
    double score = impossible;  // total, and the reward of the glosses
    Alignment on_blank, on_label;

    bool ends_in_blank() const { return on_blank.score > on_label.score; }
    const Alignment &best() const { return ends_in_blank() ? on_blank : on_label; }
};

// What an entry becomes when the step adds no gloss.
struct Stay {
    double blank, label;
    uint32_t parent;  // entry that reaches the same prefix by adding its last gloss in this step; none
};

// An entry of the next beam: entry `place` as it stays (label 0) or with a gloss added.
struct Candidate {
    double score;
    uint32_t place, label;
    double total, reward;
    LanguageModel::State context;
};

Token make_token(uint32_t gloss, const Span &span) {
    const double steps = static_cast<double>(span.end - span.start);
    return {gloss, span.start, span.end, static_cast<float>(span.posterior / steps)};
}

bool better(const Candidate &a, const Candidate &b) {
    return a.score > b.score || (a.score == b.score && std::tie(a.place, a.label) < std::tie(b.place, b.label));
}

class BeamDecoder final : public Decoder {
public:
    BeamDecoder(const std::vector<std::string> &glosses, const DecoderOptions &options);
    void reset() override;
    void push(const float *log_probs, uint64_t steps) override;
    void finish() override;
    void preview(const float *log_probs, uint64_t steps, std::vector<Token> &tokens) override;

private:
    // All that a step changes.
    struct State {
        PrefixTrie prefixes;
        PastSpans spans;
        std::vector<Entry> beam;  // best first
        uint64_t step = 0;
    };

    void favour(const std::vector<std::string> &glosses);
    void reserve(State &state) const;
    void restart(State &state) const;

    void advance(State &state, const float *row);
    void stay(const State &state, const float *row);
    void extend(const State &state, uint32_t place);
    void offer(const Candidate &candidate);
    double cutoff() const;
    void rebuild(State &state, const float *row);
    static void drop(State &state, const Entry &entry);
    Entry stayed(State &state, const Candidate &candidate, const float *row) const;
    Entry extended(State &state, const Candidate &candidate, const float *row) const;
    const Alignment &source(const State &state, uint32_t place, uint32_t label) const;
    Alignment begun(State &state, uint32_t place, uint32_t label, double value) const;

    void settle(State &state, std::vector<Token> &tokens) const;
    static void end_wait(State &state);
    template <typename Condition>
    static void drop_if(State &state, Condition condition);
    static bool over(const State &state, uint32_t gloss, Token &token);
    static const Span &first_span(const State &state, uint32_t depth);
    static bool begins_before(const State &state, const Entry &entry, uint32_t depth, uint64_t end);
    void append_rest(const State &state, const Entry &entry, std::vector<Token> &tokens) const;

    const DecoderOptions options_;
    const size_t classes_;
    std::vector<uint32_t> words_;  // of the classes, in the language model
    std::vector<double> bonus_;    // of the classes
    double highest_bonus_ = 0;
    std::vector<float> certain_blank_;

    State state_, preview_;

    // Of the present step.
    LikelyClasses likely_classes_;
    const std::vector<LikelyClass> *likely_ = nullptr;
    std::vector<uint8_t> is_likely_, is_taken_;  // by class
    std::vector<Stay> stays_;
    std::vector<Candidate> candidates_;  // a heap, the worst on top
    double best_ = impossible;
    std::vector<Entry> next_;
};

BeamDecoder::BeamDecoder(const std::vector<std::string> &glosses, const DecoderOptions &options)
    : options_(options), classes_(glosses.size()), bonus_(glosses.size(), options.gloss_bonus),
      certain_blank_(glosses.size(), -std::numeric_limits<float>::infinity()),
      likely_classes_(glosses.size(), options.top_k, options.class_threshold), is_likely_(glosses.size()),
      is_taken_(glosses.size()) {
    certain_blank_[0] = 0;
    favour(glosses);
    if (options.lm) {
        for (const std::string &gloss : glosses) {
            words_.push_back(options.lm->word(gloss));
        }
    }
    stays_.reserve(options.beam_width);
    candidates_.reserve(options.beam_width);
    next_.reserve(options.beam_width);
    fresh.reserve(2 * most_undecided);
    reserve(state_);
    reserve(preview_);
    restart(state_);
}

void BeamDecoder::favour(const std::vector<std::string> &glosses) {
    for (const auto &[gloss, boost] : options_.hot_words) {
        const auto found = std::find(glosses.begin() + 1, glosses.end(), gloss);
        if (found == glosses.end()) {
            fail(SIGNEDGE_INVALID_ARGUMENT, "the hot word '%s' is no gloss of the model", shown(gloss).c_str());
        }
        bonus_[static_cast<size_t>(found - glosses.begin())] += boost;
    }
    highest_bonus_ = *std::max_element(bonus_.begin() + 1, bonus_.end());
}

// All that a beam can ever need, so that no stream asks for memory later. Pages that stay unused cost none.
void BeamDecoder::reserve(State &state) const {
    const size_t width = options_.beam_width, longest = 2 * most_undecided + 2;
    state.prefixes.reserve(width * longest);
    state.spans.reserve(2 * width * longest);
    state.beam.reserve(width);
}

void BeamDecoder::restart(State &state) const {
    Entry empty;
    empty.prefix = state.prefixes.clear(options_.lm ? options_.lm->begin() : 0);
    empty.blank = empty.total = empty.score = empty.on_blank.score = 0;
    state.prefixes.retain(empty.prefix);
    state.prefixes[empty.prefix].place = 0;
    state.spans.clear();
    state.beam.assign(1, empty);
    state.step = 0;
}

void BeamDecoder::reset() {
    restart(state_);
    fresh.clear();
    hypotheses.clear();
}

void BeamDecoder::push(const float *log_probs, uint64_t steps) {
    for (uint64_t step = 0; step < steps; step++) {
        advance(state_, log_probs + step * classes_);
        settle(state_, fresh);
    }
}

void BeamDecoder::preview(const float *log_probs, uint64_t steps, std::vector<Token> &tokens) {
    tokens.clear();
    tokens.reserve(2 * most_undecided + steps);
    if (steps == 0) {
        append_rest(state_, state_.beam.front(), tokens);
        return;
    }
    preview_ = state_;
    for (uint64_t step = 0; step < steps; step++) {
        advance(preview_, log_probs + step * classes_);
        settle(preview_, tokens);
    }
    append_rest(preview_, preview_.beam.front(), tokens);
}

void BeamDecoder::finish() {
    std::vector<std::pair<double, uint32_t>> ranking;
    for (uint32_t place = 0; place < state_.beam.size(); place++) {
        const Entry &entry = state_.beam[place];
        const double end = options_.lm ? options_.lm->end(state_.prefixes[entry.prefix].context) : 0;
        ranking.emplace_back(-(entry.score + options_.lm_weight * end), place);
    }
    std::sort(ranking.begin(), ranking.end());
    hypotheses.resize(std::min<size_t>(options_.nbest, ranking.size()));
    for (size_t rank = 0; rank < hypotheses.size(); rank++) {
        hypotheses[rank].score = -ranking[rank].first;
        hypotheses[rank].tokens.clear();
        append_rest(state_, state_.beam[ranking[rank].second], hypotheses[rank].tokens);
    }
    fresh.insert(fresh.end(), hypotheses[0].tokens.begin(), hypotheses[0].tokens.end());
    restart(state_);
}

// ------------------------------------------------------------------------------------------------------ one step ---

void BeamDecoder::advance(State &state, const float *row) {
    likely_ = &likely_classes_.of(row);
    candidates_.clear();
    best_ = impossible;
    for (const LikelyClass &likely : *likely_) {
        is_likely_[likely.label] = 1;
    }
    stay(state, row);
    for (uint32_t place = 0; place < state.beam.size(); place++) {
        extend(state, place);
    }
    for (const LikelyClass &likely : *likely_) {
        is_likely_[likely.label] = 0;
    }
    if (candidates_.empty()) {
        advance(state, certain_blank_.data());
        return;
    }
    std::sort_heap(candidates_.begin(), candidates_.end(), better);
    while (candidates_.back().score < best_ - options_.beam_threshold) {
        candidates_.pop_back();
    }
    rebuild(state, row);
    state.step++;
}

// Every prefix may take the blank, or its last gloss once more, however unlikely.
void BeamDecoder::stay(const State &state, const float *row) {
    stays_.clear();
    for (uint32_t place = 0; place < state.beam.size(); place++) {
        const Entry &entry = state.beam[place];
        const Prefix &prefix = state.prefixes[entry.prefix];
        const double again = log_probability(row[prefix.gloss]);
        Stay stay{entry.total + log_probability(row[0]), entry.label + again, none};
        const uint32_t parent = prefix.parent == none ? none : state.prefixes[prefix.parent].place;
        if (parent != none && is_likely_[prefix.gloss]) {
            const Entry &before = state.beam[parent];
            const bool repeated = state.prefixes[before.prefix].gloss == prefix.gloss;
            stay.label = log_add(stay.label, (repeated ? before.blank : before.total) + again);
            stay.parent = parent;
        }
        stays_.push_back(stay);
        const double total = log_add(stay.blank, stay.label);
        offer({total + prefix.reward, place, 0, total, prefix.reward, prefix.context});
    }
}

// A gloss is added to the entry's prefix, unless that makes another prefix of the beam: stay() has counted that.
void BeamDecoder::extend(const State &state, uint32_t place) {
    const Entry &entry = state.beam[place];
    const Prefix &prefix = state.prefixes[entry.prefix];
    for (uint32_t child = prefix.child; child != none; child = state.prefixes[child].sibling) {
        is_taken_[state.prefixes[child].gloss] = state.prefixes[child].place != none;
    }
    for (const LikelyClass &likely : *likely_) {
        const double value = log_probability(likely.value);
        if (entry.total + value + prefix.reward + highest_bonus_ < cutoff() - slack) {
            break;
        }
        if (is_taken_[likely.label]) {
            continue;
        }
        Candidate candidate{0, place, likely.label, 0, prefix.reward + bonus_[likely.label], 0};
        candidate.total = (likely.label == prefix.gloss ? entry.blank : entry.total) + value;
        if (options_.lm) {
            if (candidate.total + candidate.reward < cutoff() - slack) {
                continue;  // a language model only ever lowers a score
            }
            const double score = options_.lm->score(prefix.context, words_[likely.label], candidate.context);
            candidate.reward += options_.lm_weight * score;
        }
        candidate.score = candidate.total + candidate.reward;
        offer(candidate);
    }
    for (uint32_t child = prefix.child; child != none; child = state.prefixes[child].sibling) {
        is_taken_[state.prefixes[child].gloss] = 0;
    }
}

void BeamDecoder::offer(const Candidate &candidate) {
    if (candidate.score == impossible || candidate.score < cutoff()) {
        return;
    }
    best_ = std::max(best_, candidate.score);
    if (candidates_.size() == options_.beam_width) {
        if (!better(candidate, candidates_.front())) {
            return;
        }
        std::pop_heap(candidates_.begin(), candidates_.end(), better);
        candidates_.pop_back();
    }
    candidates_.push_back(candidate);
    std::push_heap(candidates_.begin(), candidates_.end(), better);
}

// A score below has no hope of surviving the step.
double BeamDecoder::cutoff() const {
    const double worst = candidates_.size() == options_.beam_width ? candidates_.front().score : impossible;
    return std::max(worst, best_ - options_.beam_threshold);
}

void BeamDecoder::rebuild(State &state, const float *row) {
    next_.clear();
    for (const Candidate &candidate : candidates_) {
        next_.push_back(candidate.label == 0 ? stayed(state, candidate, row) : extended(state, candidate, row));
        state.prefixes.retain(next_.back().prefix);
    }
    state.beam.swap(next_);
    for (const Entry &entry : next_) {
        drop(state, entry);
    }
    for (uint32_t place = 0; place < state.beam.size(); place++) {
        state.prefixes[state.beam[place].prefix].place = place;
    }
}

void BeamDecoder::drop(State &state, const Entry &entry) {
    state.prefixes[entry.prefix].place = none;
    state.prefixes.release(entry.prefix);
    state.spans.release(entry.on_blank.past);
    state.spans.release(entry.on_label.past);
}

Entry BeamDecoder::stayed(State &state, const Candidate &candidate, const float *row) const {
    const Entry &entry = state.beam[candidate.place];
    const Stay &stay = stays_[candidate.place];
    const uint32_t gloss = state.prefixes[entry.prefix].gloss;
    const double again = log_probability(row[gloss]);
    Entry next{entry.prefix, stay.blank, stay.label, candidate.total, candidate.score, {}, {}};
    if (stay.blank != impossible) {
        next.on_blank = entry.best();
        next.on_blank.score += log_probability(row[0]);
        state.spans.retain(next.on_blank.past);
    }
    const double begun_score = stay.parent == none ? impossible : source(state, stay.parent, gloss).score + again;
    if (begun_score > entry.on_label.score + again) {
        next.on_label = begun(state, stay.parent, gloss, again);
    } else if (stay.label != impossible) {
        next.on_label = entry.on_label;
        next.on_label.score += again;
        next.on_label.span.end++;
        next.on_label.span.posterior += probability(again);
        state.spans.retain(next.on_label.past);
    }
    return next;
}

Entry BeamDecoder::extended(State &state, const Candidate &candidate, const float *row) const {
    Entry next;
    const uint32_t before = state.beam[candidate.place].prefix;
    next.prefix = state.prefixes.extend(before, candidate.label, candidate.reward, candidate.context);
    next.label = next.total = candidate.total;
    next.score = candidate.score;
    next.on_label = begun(state, candidate.place, candidate.label, log_probability(row[candidate.label]));
    return next;
}

// The alignment that a new gloss goes on from: between two equal ones there must be a blank.
const Alignment &BeamDecoder::source(const State &state, uint32_t place, uint32_t label) const {
    const Entry &entry = state.beam[place];
    return state.prefixes[entry.prefix].gloss == label ? entry.on_blank : entry.best();
}

Alignment BeamDecoder::begun(State &state, uint32_t place, uint32_t label, double value) const {
    const Alignment &before = source(state, place, label);
    const uint32_t prefix = state.beam[place].prefix;
    const bool first = prefix == state.prefixes.root();
    const uint32_t past = first ? none : state.spans.add(before, state.prefixes[prefix].depth);
    return {before.score + value, {state.step, state.step + 1, probability(value)}, past};
}

// ------------------------------------------------------------------------------------------------ what is decided ---

void BeamDecoder::settle(State &state, std::vector<Token> &tokens) const {
    end_wait(state);
    Token token;
    for (uint32_t gloss; (gloss = state.prefixes.common()) != none && over(state, gloss, token);) {
        tokens.push_back(token);
        state.prefixes.advance_root();
        for (Entry &entry : state.beam) {
            state.spans.cut(entry.on_blank.past, state.prefixes[gloss].depth);
            state.spans.cut(entry.on_label.past, state.prefixes[gloss].depth);
        }
    }
}

void BeamDecoder::end_wait(State &state) {
    const PrefixTrie &prefixes = state.prefixes;
    const uint32_t best = state.beam.front().prefix, depth = prefixes[prefixes.root()].depth + 1;
    if (prefixes.undecided(best) > most_undecided) {
        const uint32_t first = prefixes.first(best);
        const uint64_t end = first_span(state, depth).end;
        drop_if(state, [&](const Entry &entry) {
            return prefixes.first(entry.prefix) != first || begins_before(state, entry, depth + 1, end);
        });
    }
    drop_if(state, [&](const Entry &entry) { return prefixes.undecided(entry.prefix) > 2 * most_undecided; });
}

// The best prefix stays.
template <typename Condition>
void BeamDecoder::drop_if(State &state, Condition condition) {
    uint32_t kept = 1;
    for (uint32_t place = 1; place < state.beam.size(); place++) {
        if (condition(state.beam[place])) {
            drop(state, state.beam[place]);
        } else {
            state.prefixes[state.beam[place].prefix].place = kept;
            state.beam[kept++] = state.beam[place];
        }
    }
    state.beam.resize(kept);
}

// Whether the gloss that all prefixes share first has ended, so that its span can be told.
bool BeamDecoder::over(const State &state, uint32_t gloss, Token &token) {
    const uint32_t depth = state.prefixes[gloss].depth;
    const Entry &best = state.beam.front();
    if (best.prefix == gloss && !best.ends_in_blank()) {
        return false;
    }
    const Span &span = first_span(state, depth);
    for (const Entry &entry : state.beam) {
        if (begins_before(state, entry, depth + 1, span.end)) {
            return false;
        }
    }
    token = make_token(state.prefixes[gloss].gloss, span);
    return true;
}

// Span of gloss number `depth`, the first that is not final, in the best alignment.
const Span &BeamDecoder::first_span(const State &state, uint32_t depth) {
    const Entry &best = state.beam.front();
    return state.spans.span(best.best(), state.prefixes[best.prefix].depth, depth);
}

// Whether an alignment of the entry begins gloss number `depth`, if it has one, before the step `end`.
bool BeamDecoder::begins_before(const State &state, const Entry &entry, uint32_t depth, uint64_t end) {
    const uint32_t last = state.prefixes[entry.prefix].depth;
    const auto early = [&](const Alignment &alignment) {
        return alignment.score != impossible && state.spans.span(alignment, last, depth).start < end;
    };
    return last + 1 != depth && (early(entry.on_blank) || early(entry.on_label));
}

// The glosses of the entry that are not final, from its best alignment.
void BeamDecoder::append_rest(const State &state, const Entry &entry, std::vector<Token> &tokens) const {
    uint32_t prefix = entry.prefix, past = entry.best().past;
    const Span *span = &entry.best().span;
    tokens.resize(tokens.size() + state.prefixes.undecided(prefix));
    for (auto token = tokens.rbegin(); prefix != state.prefixes.root(); ++token) {
        *token = make_token(state.prefixes[prefix].gloss, *span);
        prefix = state.prefixes[prefix].parent;
        if (past != none) {
            span = &state.spans[past];
            past = state.spans.before(past);
        }
    }
}

}  // namespace

std::unique_ptr<Decoder> make_beam_decoder(const std::vector<std::string> &glosses, const DecoderOptions &options) {
    return std::make_unique<BeamDecoder>(glosses, options);
}

}  // namespace signedge
