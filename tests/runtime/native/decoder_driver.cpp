// What the C ABI cannot show of decoders: previews of steps to come, and that a long stream asks for no memory.
// Exits with 1 and a line that says what failed.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

#include "allocations.hpp"
#include "arpa.hpp"
#include "decoder.hpp"

using namespace signedge;

namespace {

constexpr size_t classes = 24;
const char model_text[] =
    "\\data\\\nngram 1=5\nngram 2=3\n"
    "\\1-grams:\n-1\t<unk>\n-99\t<s>\t-0.3\n-1\t</s>\n-0.8\tg1\t-0.2\n-0.9\tg2\t-0.4\n"
    "\\2-grams:\n-0.5\t<s> g1\n-0.3\tg1 g2\n-0.6\tg2 g1\n\\end\\\n";

[[noreturn]] void give_up(const char *what, size_t where) {
    std::printf("%s (%zu)\n", what, where);
    std::exit(1);
}

// Steps that leave doubt: two classes compete, and now and then nothing is a number.
class Signing {
public:
    const float *next(size_t steps) {
        values_.resize(steps * classes);
        for (size_t step = 0; step < steps; step++) {
            fill(values_.data() + step * classes);
        }
        return values_.data();
    }

private:
    void fill(float *row) {
        if (random_() % 3 == 0) {
            first_ = random_() % 2 ? 0 : random_() % classes;
            second_ = random_() % classes;
        }
        double sum = 0;
        for (size_t label = 0; label < classes; label++) {
            row[label] = noise_(random_) + (label == first_ ? 6.0f : 0.0f) + (label == second_ ? 5.0f : 0.0f);
            sum += std::exp(static_cast<double>(row[label]));
        }
        const bool broken = random_() % 500 == 0;
        for (size_t label = 0; label < classes; label++) {
            row[label] = broken ? std::nanf("") : row[label] - static_cast<float>(std::log(sum));
        }
    }

    std::mt19937 random_{7};
    std::normal_distribution<float> noise_;
    size_t first_ = 0, second_ = 0;
    std::vector<float> values_;
};

bool same(const std::vector<Token> &a, const std::vector<Token> &b, size_t from) {
    if (a.size() != b.size() - from) {
        return false;
    }
    for (size_t i = 0; i < a.size(); i++) {
        const Token &x = a[i], &y = b[from + i];
        if (x.id != y.id || x.start != y.start || x.end != y.end || x.confidence != y.confidence) {
            return false;
        }
    }
    return true;
}

// A preview is what a decoder that really got the steps would show, and it changes nothing.
void check_preview(const std::vector<std::string> &glosses, const DecoderOptions &options) {
    const auto decoder = make_decoder(glosses, options), twin = make_decoder(glosses, options);
    Signing signing;
    std::mt19937 random(3);
    std::vector<float> all;
    std::vector<Token> shown, rest;
    for (size_t round = 0; round < 150; round++) {
        const size_t known = all.size() / classes, steps = random() % 6, ahead = random() % 12;
        const float *coming = signing.next(steps + ahead);
        all.insert(all.end(), coming, coming + steps * classes);
        decoder->push(all.data() + known * classes, steps);
        decoder->preview(coming + steps * classes, ahead, shown);
        twin->reset();
        twin->push(all.data(), all.size() / classes);
        if (!same(decoder->fresh, twin->fresh, 0)) {
            give_up("a preview changed what is final", round);
        }
        twin->push(coming + steps * classes, ahead);
        twin->preview(nullptr, 0, rest);
        twin->fresh.insert(twin->fresh.end(), rest.begin(), rest.end());
        if (!same(shown, twin->fresh, decoder->fresh.size())) {
            give_up("a preview is not what comes", round);
        }
    }
}

void check_memory(const std::vector<std::string> &glosses, const DecoderOptions &options) {
    const auto decoder = make_decoder(glosses, options);
    Signing signing;
    std::vector<Token> shown;
    uint64_t before = 0;
    size_t found = 0;
    for (size_t step = 0; step < 100000; step++) {
        if (step == 1000) {
            before = allocations;
        }
        const float *rows = signing.next(4);
        decoder->push(rows, 1);
        decoder->preview(rows + classes, 3, shown);
        found += decoder->fresh.size();
        decoder->fresh.clear();
    }
    if (allocations != before) {
        give_up("a long stream asked for memory, so many times", allocations - before);
    }
    if (found < 1000) {
        give_up("a long stream gave too few glosses", found);
    }
}

}  // namespace

int main() {
    std::vector<std::string> glosses{"<blank>"};
    for (size_t label = 1; label < classes; label++) {
        glosses.push_back("g" + std::to_string(label));
    }
    const std::shared_ptr<const LanguageModel> lm = LanguageModel::parse(model_text, std::strlen(model_text), "text");
    DecoderOptions greedy, beam, favouring;
    beam.kind = favouring.kind = SIGNEDGE_DECODER_BEAM;
    favouring.lm = lm;
    favouring.beam_width = 4;
    favouring.hot_words = {{"g3", 2.0f}};
    for (const DecoderOptions &options : {greedy, beam, favouring}) {
        check_preview(glosses, options);
        check_memory(glosses, options);
    }
}
