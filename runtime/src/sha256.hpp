// SHA-256 (FIPS 180-4), with the instructions that x86 and ARM have for it where the CPU has them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace signedge {

class Sha256 {
public:
    // Takes whole blocks of 64 bytes into the state.
    using Compress = void (*)(uint32_t *state, const uint8_t *blocks, size_t count);

    Sha256();                            // by the fastest way of this CPU
    explicit Sha256(Compress compress);  // by one that was chosen
    void update(const void *data, size_t size);
    // The digest of all updates in lower-case hexadecimal. The object is spent then.
    std::string hex();

private:
    Compress compress_;
    uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                          0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    uint8_t block_[64];
    size_t filled_ = 0;
    uint64_t bytes_ = 0;
};

}  // namespace signedge
