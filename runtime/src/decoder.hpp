// CTC decoding, online: steps of log-probabilities in, glosses out as soon as nothing can change them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "signedge.h"

namespace signedge {

struct Token {
    uint32_t id = 0;
    uint64_t start = 0, end = 0;  // steps since the start, end excluded
    float confidence = 0;         // mean posterior over those steps
};

struct Hypothesis {
    double score = 0;  // log, over all steps since the start
    std::vector<Token> tokens;
};

class LanguageModel;  // arpa.hpp

struct DecoderOptions {  // resolved: no zero that means a default
    int32_t kind = SIGNEDGE_DECODER_GREEDY;
    uint32_t beam_width = 10, top_k = 40, nbest = 1;
    float class_threshold = -7, beam_threshold = 15;
    std::shared_ptr<const LanguageModel> lm;
    float lm_weight = 0.25f, gloss_bonus = 0;
    std::vector<std::pair<std::string, float>> hot_words;
};

// Glosses that a decoder keeps back, at most: of the best hypothesis; of any other twice as many.
constexpr uint32_t most_undecided = 32;

class Decoder {
public:
    virtual ~Decoder() = default;
    virtual void reset() = 0;
    // Settle so many steps (steps, classes). What no later step can change is appended to `fresh`.
    virtual void push(const float *log_probs, uint64_t steps) = 0;
    // No more steps: the best hypothesis' rest is appended to `fresh`, and `hypotheses` is filled, best first.
    virtual void finish() = 0;
    // The glosses beyond the final ones if these steps came next (steps 0: as it stands), put into `tokens` in place of
    // what was there. Leaves everything else as it is.
    virtual void preview(const float *log_probs, uint64_t steps, std::vector<Token> &tokens) = 0;

    std::vector<Token> fresh;             // final, for the owner to take (and clear)
    std::vector<Hypothesis> hypotheses;   // after finish: of what became final then
};

// glosses[0] is the blank. Throws Error(SIGNEDGE_INVALID_ARGUMENT): impossible options, a hot word that is no gloss.
// After the first seconds of signing a decoder allocates no more memory, however long the stream.
std::unique_ptr<Decoder> make_decoder(const std::vector<std::string> &glosses, const DecoderOptions &options);

// What make_decoder() chooses from, with options that it has checked.
std::unique_ptr<Decoder> make_greedy_decoder(size_t classes);
std::unique_ptr<Decoder> make_beam_decoder(const std::vector<std::string> &glosses, const DecoderOptions &options);

// Read and resolve the caller's options (NULL: all defaults), of which only the first struct_size bytes are read.
// Throws Error(SIGNEDGE_INVALID_ARGUMENT). In api.cpp, which knows what a signedge_lm holds.
DecoderOptions resolve(const signedge_decoder_options *options);

}  // namespace signedge
