// Language model: reading ARPA text from anyone. What does not add up is refused with its line, as KenLM refuses it:
// words that are no 1-gram, n-grams whose context (all but the last word) is missing, probabilities above 1, no <s> or
// </s>. As there, an n-gram whose ending (all but the first word) is missing is accepted, and <unk> gets 10^-100 where
// it is missing.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>
#include <tuple>

#include "arpa.hpp"
#include "error.hpp"
#include "plain_file.hpp"
#include "text.hpp"

namespace signedge {

namespace {

constexpr size_t highest_order = 6;
constexpr uint64_t most_ngrams = UINT32_MAX - 2;  // numbers of n-grams are 32 bits wide
constexpr double unknown = -100, least = -1000;   // log10; -inf, which some tools write, is as good as `least`

// A line of an n-gram section: probability, one to six words, back-off.
struct Fields {
    std::string_view values[highest_order + 2];
    size_t count = 0;
};

bool is_space(char letter) { return letter == ' ' || letter == '\t' || letter == '\r'; }

std::string_view stripped(std::string_view text) {
    while (!text.empty() && is_space(text.front())) {
        text.remove_prefix(1);
    }
    while (!text.empty() && is_space(text.back())) {
        text.remove_suffix(1);
    }
    return text;
}

template <typename Number>
bool read_number(std::string_view text, Number &number) {
    const auto result = std::from_chars(text.data(), text.data() + text.size(), number);
    return result.ec == std::errc() && result.ptr == text.data() + text.size();
}

float natural(double log10) { return static_cast<float>(log10 * std::log(10.0)); }

}  // namespace

class ArpaReader {
public:
    ArpaReader(const char *text, size_t size, const std::string &name) : rest_(text, size), name_(name) {}

    std::unique_ptr<LanguageModel> read() {
        read_counts();
        for (size_t order = 1; order <= counts_.size(); order++) {
            read_section(order);
        }
        if (line_ != "\\end\\") {
            refuse("\\end\\ is missing");
        }
        finish();
        return std::move(model_);
    }

private:
    struct Entry {
        uint32_t context, word;
        float probability, backoff;
        uint64_t line;
    };

    [[noreturn]] void refuse(const char *what) const { refuse(what, number_); }
    [[noreturn]] void refuse(const char *what, uint64_t number) const {
        fail(SIGNEDGE_BAD_FILE, "%s is not a language model in ARPA form: line %llu: %s", shown(name_, 400).c_str(),
             static_cast<unsigned long long>(number), what);
    }

    // Go to the next line that is not empty. At the end of the text the line is empty.
    void next_line() {
        line_ = {};
        while (line_.empty() && !rest_.empty()) {
            const size_t end = std::min(rest_.find('\n'), rest_.size());
            line_ = stripped(rest_.substr(0, end));
            rest_.remove_prefix(std::min(end + 1, rest_.size()));
            number_++;
        }
    }

    // \data\ and a line "ngram ORDER=COUNT" for each order. What stands before is a comment.
    void read_counts() {
        do {
            next_line();
        } while (line_ != "\\data\\" && !line_.empty());
        if (line_.empty()) {
            refuse("\\data\\ is missing");
        }
        for (next_line(); line_.substr(0, 5) == "ngram"; next_line()) {
            const size_t equals = line_.find('=');
            uint64_t order = 0, count = 0;
            if (equals == std::string_view::npos || !read_number(stripped(line_.substr(5, equals - 5)), order) ||
                !read_number(stripped(line_.substr(equals + 1)), count)) {
                refuse("'ngram ORDER=COUNT' was expected");
            }
            if (order != counts_.size() + 1 || order > highest_order) {
                refuse("orders must go from 1 up to 6 at most, one by one");
            }
            counts_.push_back(count);
        }
        if (counts_.empty()) {
            refuse("'ngram 1=COUNT' was expected");
        }
    }

    void read_section(size_t order) {
        const char header[] = {'\\', static_cast<char>('0' + order), '-', 'g', 'r', 'a', 'm', 's', ':', 0};
        if (line_ != header) {
            refuse("the section of the next order was expected");
        }
        entries_.clear();
        entries_.reserve(std::min<uint64_t>(counts_[order - 1], rest_.size() / (2 * order + 2)));
        for (next_line(); !line_.empty() && line_.front() != '\\'; next_line()) {
            if (entries_.size() == counts_[order - 1]) {
                refuse("more n-grams than \\data\\ says");
            }
            read_ngram(order);
        }
        if (entries_.size() != counts_[order - 1]) {
            refuse("fewer n-grams before here than \\data\\ says");
        }
        if (order == 1) {
            add_unknown();
        }
        add_entries(order);
    }

    void read_ngram(size_t order) {
        split();
        const bool backoff_allowed = order < counts_.size();
        if (fields_.count < order + 1 || fields_.count > order + 1 + backoff_allowed) {
            refuse(backoff_allowed ? "a probability, the words and perhaps a back-off weight were expected"
                                   : "a probability and the words were expected, and no more");
        }
        Entry entry{0, 0, 0, 0, number_};
        entry.probability = read_probability(fields_.values[0]);
        if (fields_.count == order + 2) {
            entry.backoff = read_backoff(fields_.values[order + 1]);
        }
        if (order == 1) {
            entry.word = add_word(fields_.values[1]);
        } else {
            for (size_t i = 1; i < order; i++) {
                entry.context = context(entry.context, fields_.values[i]);
            }
            entry.word = known_word(fields_.values[order]);
        }
        entries_.push_back(entry);
    }

    // Fields are separated by any number of spaces and tabs. One too many is kept, for the line to be refused.
    void split() {
        fields_.count = 0;
        std::string_view rest = line_;
        while (!rest.empty() && fields_.count < highest_order + 2) {
            const auto end = std::find_if(rest.begin(), rest.end(), is_space);
            const size_t size = static_cast<size_t>(end - rest.begin());
            fields_.values[fields_.count++] = rest.substr(0, size);
            rest = stripped(rest.substr(size));
        }
        if (!rest.empty()) {
            refuse("more than a probability, six words and a back-off weight");
        }
    }

    float read_probability(std::string_view field) const {
        double value = 0;
        if (!read_number(field, value) || std::isnan(value)) {
            refuse("its first field is not a number");
        }
        if (value > 0) {
            refuse("a probability above 1");
        }
        return natural(std::max(value, least));
    }

    float read_backoff(std::string_view field) const {
        double value = 0;
        if (!read_number(field, value) || !(std::abs(value) <= -least)) {
            refuse("its last field is not a back-off weight");
        }
        return natural(value);
    }

    // <unk> is number 0, the others follow in the order of the text.
    uint32_t add_word(std::string_view text) {
        const bool unknown_word = text == "<unk>" || text == "<UNK>";
        const uint32_t index = unknown_word ? 0 : next_word_;
        if (!model_->words_.emplace(unknown_word ? "<unk>" : std::string(text), index).second) {
            refuse("a word that stood there before");
        }
        next_word_ += unknown_word ? 0 : 1;
        return index;
    }

    uint32_t known_word(std::string_view text) {
        key_.assign(text);
        const auto found = model_->words_.find(key_ == "<UNK>" ? "<unk>" : key_);
        if (found == model_->words_.end()) {
            refuse("a word that is no 1-gram");
        }
        return found->second;
    }

    uint32_t context(uint32_t context, std::string_view text) {
        const uint32_t longer = model_->find(context, known_word(text));
        if (longer == 0) {
            refuse("its context, all words but the last, is no n-gram");
        }
        return longer;
    }

    void add_unknown() {
        if (model_->words_.emplace("<unk>", 0).second) {
            entries_.push_back({0, 0, natural(unknown), 0, number_});
        }
    }

    // Append the section's n-grams, sorted, and tell their contexts where they lie.
    void add_entries(size_t order) {
        std::vector<LanguageModel::Ngram> &ngrams = model_->ngrams_;
        if (ngrams.size() + entries_.size() > most_ngrams) {
            refuse("more n-grams than can be numbered");
        }
        std::sort(entries_.begin(), entries_.end(), [](const Entry &a, const Entry &b) {
            return std::tie(a.context, a.word, a.line) < std::tie(b.context, b.word, b.line);
        });
        const uint32_t begin = static_cast<uint32_t>(ngrams.size()) - 1;  // the end mark gives way
        const uint32_t end = begin + static_cast<uint32_t>(entries_.size());
        uint32_t context = contexts_begin_;
        ngrams.pop_back();
        for (const Entry &entry : entries_) {
            const uint32_t index = static_cast<uint32_t>(ngrams.size());
            if (index > begin && entry.context + 1 == context && entry.word == ngrams.back().word) {
                refuse("an n-gram that stood there before", entry.line);
            }
            while (context <= entry.context) {
                ngrams[context++].first = index;
            }
            ngrams.push_back({entry.probability, entry.backoff, entry.word, 0, end});
        }
        while (context < begin) {
            ngrams[context++].first = end;
        }
        ngrams.push_back({0, 0, 0, 0, end});
        contexts_begin_ = begin;
        if (order > 1) {
            link_suffixes(begin);
        }
    }

    void link_suffixes(uint32_t begin) {
        std::vector<LanguageModel::Ngram> &ngrams = model_->ngrams_;
        for (size_t i = 0; i < entries_.size(); i++) {
            uint32_t shorter = ngrams[entries_[i].context].suffix;
            uint32_t suffix = model_->find(shorter, entries_[i].word);
            while (suffix == 0) {
                shorter = ngrams[shorter].suffix;
                suffix = model_->find(shorter, entries_[i].word);
            }
            ngrams[begin + i].suffix = suffix;
        }
    }

    // Skip suffixes that nothing depends on, so that states with equal futures are equal.
    void finish() {
        std::vector<LanguageModel::Ngram> &ngrams = model_->ngrams_;
        for (size_t i = 1; i + 1 < ngrams.size(); i++) {
            if (!model_->matters(ngrams[i].suffix)) {
                ngrams[i].suffix = ngrams[ngrams[i].suffix].suffix;
            }
        }
        const auto begin = model_->words_.find("<s>"), end = model_->words_.find("</s>");
        if (begin == model_->words_.end() || end == model_->words_.end()) {
            refuse("the 1-grams lack <s> or </s>");
        }
        const uint32_t start = 1 + begin->second;
        model_->begin_ = model_->matters(start) ? start : 0;
        model_->end_word_ = end->second;
    }

    std::string_view rest_, line_;
    const std::string &name_;
    uint64_t number_ = 0;  // of the line, from 1
    std::vector<uint64_t> counts_;
    std::vector<Entry> entries_;  // of the section
    Fields fields_;
    std::string key_;
    uint32_t next_word_ = 1;
    uint32_t contexts_begin_ = 0;  // first n-gram of the order before
    std::unique_ptr<LanguageModel> model_ = start();

    // The empty n-gram and the end mark.
    static std::unique_ptr<LanguageModel> start() {
        auto model = std::make_unique<LanguageModel>();
        model->ngrams_ = {{0, 0, 0, 0, 1}, {0, 0, 0, 0, 1}};
        return model;
    }
};

std::unique_ptr<LanguageModel> LanguageModel::parse(const char *text, size_t size, const std::string &name) {
    return ArpaReader(text, size, name).read();
}

std::unique_ptr<LanguageModel> LanguageModel::read(const std::string &path) {
    PlainFile file(path);
    const std::vector<uint8_t> bytes = file.read_all(file.size());
    return parse(reinterpret_cast<const char *>(bytes.data()), bytes.size(), path);
}

}  // namespace signedge
