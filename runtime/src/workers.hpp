// Threads of a model that step several streams at once.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace signedge {

class Workers {
public:
    explicit Workers(uint32_t threads);  // the caller's own included: 1 starts none
    ~Workers();
    Workers(const Workers &) = delete;
    Workers &operator=(const Workers &) = delete;

    uint32_t threads() const { return static_cast<uint32_t>(threads_.size()) + 1; }

    // Calls task(0) to task(count - 1), spread over the threads; returns when all are done. A task must not throw. While
    // another thread of the program has the workers, the caller does everything itself.
    template <typename Task>
    void run(uint32_t count, Task &task) {
        run(count, [](void *given, uint32_t i) { (*static_cast<Task *>(given))(i); }, &task);
    }

private:
    using Call = void (*)(void *task, uint32_t i);
    void run(uint32_t count, Call call, void *task);
    void work();
    void take_tasks();

    std::vector<std::thread> threads_;
    std::mutex user_, mutex_;
    std::condition_variable start_, done_;
    uint64_t job_ = 0;        // number of the job that is being done
    uint32_t busy_ = 0;       // threads that have not finished with it
    bool stop_ = false;
    Call call_ = nullptr;
    void *task_ = nullptr;
    uint32_t count_ = 0;
    std::atomic<uint32_t> next_{0};
};

}  // namespace signedge
