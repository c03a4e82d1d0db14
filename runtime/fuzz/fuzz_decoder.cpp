// Decoders of whatever options, fed whatever numbers: options are refused in one line or the decoder keeps its promises.
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "arpa.hpp"
#include "decoder.hpp"
#include "input.hpp"
#include "refused.hpp"

namespace {

using Language = std::shared_ptr<const signedge::LanguageModel>;

constexpr char language[] =
    "\\data\\\nngram 1=5\nngram 2=3\n\\1-grams:\n-1\t<s>\t-0.3\n-1\t</s>\n-2\t<unk>\n-1\t1\t-0.2\n-1.5\t2\t-0.1\n"
    "\\2-grams:\n-0.5\t<s> 1\n-0.7\t1 2\n-0.2\t2 </s>\n\\end\\\n";

using fuzz::need;

float take_value(fuzz::Input &input) {
    const uint8_t kind = input.take<uint8_t>();
    return kind < 32 ? input.take<float>() : -static_cast<float>(kind - 32) / 16;
}

std::vector<std::string> take_glosses(fuzz::Input &input) {
    std::vector<std::string> glosses{"<blank>"};
    for (uint32_t i = 1, count = input.between(2, 12); i < count; i++) {
        glosses.push_back(std::to_string(i));
    }
    return glosses;
}

signedge::DecoderOptions take_options(fuzz::Input &input, const Language &lm) {
    signedge::DecoderOptions options;
    options.kind = input.one_in(16) ? input.take<int32_t>() : static_cast<int32_t>(input.between(0, 1));
    options.beam_width = input.one_in(16) ? input.take<uint32_t>() : input.between(1, 16);
    options.top_k = input.one_in(16) ? input.take<uint32_t>() : input.between(1, 16);
    options.nbest = input.one_in(16) ? input.take<uint32_t>() : input.between(1, 4);
    if (input.one_in(2)) {
        options.class_threshold = take_value(input);
        options.beam_threshold = take_value(input);
    }
    if (input.one_in(2)) {
        options.lm = lm;
        options.lm_weight = take_value(input);
        options.gloss_bonus = take_value(input);
    }
    for (uint32_t i = 0, count = input.between(0, 3); i < count; i++) {
        options.hot_words.emplace_back(std::to_string(input.between(0, 12)), take_value(input));
    }
    return options;
}

// Tokens of classes that there are, one after the other, not before `least` nor beyond the steps that were given.
void check(const std::vector<signedge::Token> &tokens, size_t classes, uint64_t least, uint64_t steps) {
    for (const signedge::Token &token : tokens) {
        need(token.id >= 1 && token.id < classes);
        need(token.start >= least && token.start < token.end && token.end <= steps);
        need(token.confidence >= 0 && token.confidence <= 1.001f);
        least = token.end;
    }
}

void decode(fuzz::Input &input, signedge::Decoder &decoder, size_t classes) {
    uint64_t given = 0;
    std::vector<signedge::Token> trial;
    for (uint32_t round = 0; round < 24 && !input.is_empty(); round++) {
        const uint32_t steps = input.between(0, 8);
        std::unique_ptr<float[]> values(new float[steps * classes]);
        for (size_t i = 0; i < steps * classes; i++) {
            values[i] = take_value(input);
        }
        const size_t fresh = decoder.fresh.size();
        decoder.preview(values.get(), steps, trial);
        need(decoder.fresh.size() == fresh);
        const uint64_t last = fresh > 0 ? decoder.fresh.back().end : 0;
        check(trial, classes, last, given + steps);
        decoder.push(values.get(), steps);
        given += steps;
        check(decoder.fresh, classes, 0, given);
    }
    decoder.finish();
    check(decoder.fresh, classes, 0, given);
    need(!decoder.hypotheses.empty());
    for (size_t rank = 0; rank < decoder.hypotheses.size(); rank++) {
        check(decoder.hypotheses[rank].tokens, classes, 0, given);
        need(rank == 0 || decoder.hypotheses[rank].score <= decoder.hypotheses[rank - 1].score);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const Language lm = signedge::LanguageModel::parse(language, sizeof language - 1, "text");
    fuzz::Input input(data, size);
    const std::vector<std::string> glosses = take_glosses(input);
    fuzz::take_or_refuse(SIGNEDGE_INVALID_ARGUMENT, [&] {
        const auto decoder = signedge::make_decoder(glosses, take_options(input, lm));
        decode(input, *decoder, glosses.size());
        decoder->reset();
        decoder->fresh.clear();
        decode(input, *decoder, glosses.size());
    });
    return 0;
}
