// Choosing a decoder: options that cannot be meant are refused here, once for all decoders.
#include "decoder.hpp"

#include <cmath>

#include "error.hpp"

namespace signedge {

namespace {

constexpr uint32_t widest_beam = 1024;

void check_number(float value, float lowest, float highest, const char *name) {
    if (!(value >= lowest && value <= highest)) {
        fail(SIGNEDGE_INVALID_ARGUMENT, "%s is %g: give %g to %g", name, static_cast<double>(value),
             static_cast<double>(lowest), static_cast<double>(highest));
    }
}

void check_beam(const DecoderOptions &options) {
    constexpr float most = 1e6f;
    if (options.beam_width == 0 || options.beam_width > widest_beam) {
        fail(SIGNEDGE_INVALID_ARGUMENT, "beam_width is %u: give 1 to %u", options.beam_width, widest_beam);
    }
    if (options.nbest == 0 || options.nbest > options.beam_width) {
        fail(SIGNEDGE_INVALID_ARGUMENT, "nbest is %u: give 1 to beam_width, which is %u", options.nbest,
             options.beam_width);
    }
    if (options.top_k == 0) {
        fail(SIGNEDGE_INVALID_ARGUMENT, "top_k is 0: no gloss could ever be recognised");
    }
    check_number(options.class_threshold, -most, 0, "class_threshold");
    check_number(options.beam_threshold, 0, most, "beam_threshold");
    check_number(options.lm_weight, 0, most, "lm_weight");
    check_number(options.gloss_bonus, -most, most, "gloss_bonus");
    for (const auto &[gloss, boost] : options.hot_words) {
        check_number(boost, -most, most, "a hot word's boost");
    }
}

}  // namespace

std::unique_ptr<Decoder> make_decoder(const std::vector<std::string> &glosses, const DecoderOptions &options) {
    if (glosses.size() < 2) {
        fail(SIGNEDGE_INVALID_ARGUMENT, "%zu classes: the blank and one gloss are needed at least", glosses.size());
    }
    if (options.kind == SIGNEDGE_DECODER_BEAM) {
        check_beam(options);
        return make_beam_decoder(glosses, options);
    }
    if (options.kind != SIGNEDGE_DECODER_GREEDY) {
        fail(SIGNEDGE_INVALID_ARGUMENT, "kind is %d, which is none of SIGNEDGE_DECODER_*", options.kind);
    }
    if (options.lm || !options.hot_words.empty()) {
        fail(SIGNEDGE_INVALID_ARGUMENT, "a language model and hot words need kind SIGNEDGE_DECODER_BEAM");
    }
    return make_greedy_decoder(glosses.size());
}

}  // namespace signedge
