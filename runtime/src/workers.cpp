// A job is a counter that every thread takes numbers from.
#include "workers.hpp"

#include <csignal>

#include <pthread.h>

namespace signedge {

Workers::Workers(uint32_t threads) {
    threads_.reserve(threads);
    // The program's signals are for its own threads.
    sigset_t every, before;
    sigfillset(&every);
    pthread_sigmask(SIG_SETMASK, &every, &before);
    try {
        while (threads_.size() + 1 < threads) {
            threads_.emplace_back([this] { work(); });
        }
    } catch (...) {
        // The system gives no more threads: those that there are will do.
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Workers::~Workers() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        stop_ = true;
    }
    start_.notify_all();
    for (std::thread &thread : threads_) {
        thread.join();
    }
}

void Workers::run(uint32_t count, Call call, void *task) {
    const std::unique_lock<std::mutex> mine(user_, std::try_to_lock);
    if (!mine.owns_lock() || threads_.empty() || count < 2) {
        for (uint32_t i = 0; i < count; i++) {
            call(task, i);
        }
        return;
    }
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        call_ = call;
        task_ = task;
        count_ = count;
        next_ = 0;
        busy_ = static_cast<uint32_t>(threads_.size());
        job_++;
    }
    start_.notify_all();
    take_tasks();
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return busy_ == 0; });
}

void Workers::work() {
    uint64_t finished = 0;
    while (true) {
        {
            std::unique_lock<std::mutex> lock(mutex_);
            start_.wait(lock, [&] { return stop_ || job_ != finished; });
            if (stop_) {
                return;
            }
            finished = job_;
        }
        take_tasks();
        const std::lock_guard<std::mutex> lock(mutex_);
        if (--busy_ == 0) {
            done_.notify_one();
        }
    }
}

void Workers::take_tasks() {
    for (uint32_t i = next_++; i < count_; i = next_++) {
        call_(task_, i);
    }
}

}  // namespace signedge
