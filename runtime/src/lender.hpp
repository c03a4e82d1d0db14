// Things that a run needs for itself alone: lent to it, made when all are out, kept for the next run.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace signedge {

template <typename Item>
class Lender {
public:
    class Loan {
    public:
        Loan(Lender &lender, std::unique_ptr<Item> item) : lender_(lender), item_(std::move(item)) {}
        ~Loan() { lender_.take_back(std::move(item_)); }
        Loan(const Loan &) = delete;
        Loan &operator=(const Loan &) = delete;
        Item *operator->() const { return item_.get(); }

    private:
        Lender &lender_;
        std::unique_ptr<Item> item_;
    };

    explicit Lender(std::function<std::unique_ptr<Item>()> make) : make_(std::move(make)) {}

    Loan lend() {
        std::unique_ptr<Item> item = idle();
        return Loan(*this, item ? std::move(item) : make_());
    }

private:
    std::unique_ptr<Item> idle() {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (idle_.empty()) {
            idle_.reserve(++made_);  // so that taking one back asks for no memory
            return nullptr;
        }
        std::unique_ptr<Item> item = std::move(idle_.back());
        idle_.pop_back();
        return item;
    }

    void take_back(std::unique_ptr<Item> item) noexcept {
        const std::lock_guard<std::mutex> lock(mutex_);
        idle_.push_back(std::move(item));
    }

    std::function<std::unique_ptr<Item>()> make_;
    std::mutex mutex_;
    std::vector<std::unique_ptr<Item>> idle_;
    size_t made_ = 0;
};

}  // namespace signedge
