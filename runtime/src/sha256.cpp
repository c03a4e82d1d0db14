// SHA-256 (FIPS 180-4), with the instructions that x86 and ARM have for it where the CPU has them.
#include "sha256.hpp"

#include <algorithm>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#define SIGNEDGE_SHA_X86
// clang 14 declares these functions of arm_neon.h only where the whole build may use them.
#elif defined(__aarch64__) && defined(__linux__) && (!defined(__clang__) || defined(__ARM_FEATURE_SHA2))
#include <arm_neon.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>
#define SIGNEDGE_SHA_ARM
#endif

namespace signedge {
namespace {

constexpr size_t block_size = 64;

alignas(16) constexpr uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

uint32_t rotated(uint32_t value, int by) { return value >> by | value << (32 - by); }

uint32_t big_endian(const uint8_t *bytes) {
    return static_cast<uint32_t>(bytes[0]) << 24 | static_cast<uint32_t>(bytes[1]) << 16 |
           static_cast<uint32_t>(bytes[2]) << 8 | bytes[3];
}

void compress_portable(uint32_t *state, const uint8_t *blocks, size_t count) {
    for (; count > 0; --count, blocks += block_size) {
        uint32_t w[64];
        for (int t = 0; t < 16; ++t) {
            w[t] = big_endian(blocks + 4 * t);
        }
        for (int t = 16; t < 64; ++t) {
            const uint32_t early = rotated(w[t - 15], 7) ^ rotated(w[t - 15], 18) ^ w[t - 15] >> 3;
            const uint32_t late = rotated(w[t - 2], 17) ^ rotated(w[t - 2], 19) ^ w[t - 2] >> 10;
            w[t] = w[t - 16] + early + w[t - 7] + late;
        }
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
        uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
        for (int t = 0; t < 64; ++t) {
            const uint32_t choice = g ^ (e & (f ^ g)), majority = (a & b) | (c & (a | b));
            const uint32_t first =
                h + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) + choice + round_constants[t] + w[t];
            const uint32_t second = (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + majority;
            h = g, g = f, f = e, e = d + first, d = c, c = b, b = a, a = first + second;
        }
        const uint32_t after[8] = {a, b, c, d, e, f, g, h};
        for (int i = 0; i < 8; ++i) {
            state[i] += after[i];
        }
    }
}

#if defined(SIGNEDGE_SHA_X86)

bool has_instructions() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    const bool sse = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_SSSE3) && (c & bit_SSE4_1);
    return sse && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_SHA);
}

__attribute__((target("sha,ssse3,sse4.1"))) void
compress_with_instructions(uint32_t *state, const uint8_t *blocks, size_t count) {
    const __m128i swap = _mm_set_epi32(0x0c0d0e0f, 0x08090a0b, 0x04050607, 0x00010203);
    auto word = [state](int i) { return static_cast<int>(state[i]); };
    __m128i abef = _mm_set_epi32(word(0), word(1), word(4), word(5));
    __m128i cdgh = _mm_set_epi32(word(2), word(3), word(6), word(7));
    for (; count > 0; --count, blocks += block_size) {
        const __m128i abef_before = abef, cdgh_before = cdgh;
        __m128i w[4];
        for (int i = 0; i < 4; ++i) {
            w[i] = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i *>(blocks) + i), swap);
        }
        for (int four = 0; four < 16; ++four) {
            const __m128i *constants = reinterpret_cast<const __m128i *>(round_constants) + four;
            const __m128i sum = _mm_add_epi32(w[0], _mm_load_si128(constants));
            // Two rounds turn CDGH into the next ABEF, and ABEF is the next CDGH.
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0e));
            const __m128i early = _mm_add_epi32(_mm_sha256msg1_epu32(w[0], w[1]), _mm_alignr_epi8(w[3], w[2], 4));
            const __m128i next = _mm_sha256msg2_epu32(early, w[3]);
            w[0] = w[1], w[1] = w[2], w[2] = w[3], w[3] = next;
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    alignas(16) uint32_t fe[4], hg[4];
    _mm_store_si128(reinterpret_cast<__m128i *>(fe), abef);
    _mm_store_si128(reinterpret_cast<__m128i *>(hg), cdgh);
    const uint32_t after[8] = {fe[3], fe[2], hg[3], hg[2], fe[1], fe[0], hg[1], hg[0]};
    std::memcpy(state, after, sizeof after);
}

#elif defined(SIGNEDGE_SHA_ARM)

bool has_instructions() { return getauxval(AT_HWCAP) & HWCAP_SHA2; }

__attribute__((target("+crypto"))) void
compress_with_instructions(uint32_t *state, const uint8_t *blocks, size_t count) {
    uint32x4_t abcd = vld1q_u32(state), efgh = vld1q_u32(state + 4);
    for (; count > 0; --count, blocks += block_size) {
        const uint32x4_t abcd_before = abcd, efgh_before = efgh;
        uint32x4_t w[4];
        for (int i = 0; i < 4; ++i) {
            w[i] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(blocks + 16 * i)));
        }
        for (int four = 0; four < 16; ++four) {
            const uint32x4_t sum = vaddq_u32(w[0], vld1q_u32(round_constants + 4 * four));
            const uint32x4_t abcd_now = abcd;
            abcd = vsha256hq_u32(abcd, efgh, sum);
            efgh = vsha256h2q_u32(efgh, abcd_now, sum);
            const uint32x4_t next = vsha256su1q_u32(vsha256su0q_u32(w[0], w[1]), w[2], w[3]);
            w[0] = w[1], w[1] = w[2], w[2] = w[3], w[3] = next;
        }
        abcd = vaddq_u32(abcd, abcd_before);
        efgh = vaddq_u32(efgh, efgh_before);
    }
    vst1q_u32(state, abcd);
    vst1q_u32(state + 4, efgh);
}

#else

bool has_instructions() { return false; }
constexpr Sha256::Compress compress_with_instructions = compress_portable;

#endif

}  // namespace

Sha256::Sha256() : Sha256(has_instructions() ? compress_with_instructions : compress_portable) {}

Sha256::Sha256(Compress compress) : compress_(compress) {}

void Sha256::update(const void *data, size_t size) {
    const uint8_t *bytes = static_cast<const uint8_t *>(data);
    bytes_ += size;
    if (filled_ > 0) {
        const size_t taken = std::min(size, block_size - filled_);
        std::copy_n(bytes, taken, block_ + filled_);
        filled_ += taken;
        bytes += taken;
        size -= taken;
        if (filled_ < block_size) {
            return;
        }
        compress_(state_, block_, 1);
    }
    compress_(state_, bytes, size / block_size);
    filled_ = size % block_size;
    std::copy_n(bytes + (size - filled_), filled_, block_);
}

std::string Sha256::hex() {
    const uint64_t bits = bytes_ * 8;
    // One bit, then zeros up to 8 bytes before the end of a block, then the length.
    const uint8_t padding[block_size] = {0x80};
    update(padding, 1 + (block_size + 55 - filled_) % block_size);
    uint8_t length[8];
    for (int i = 0; i < 8; ++i) {
        length[i] = static_cast<uint8_t>(bits >> (56 - 8 * i));
    }
    update(length, sizeof length);
    std::string text;
    for (uint32_t word : state_) {
        for (int shift = 28; shift >= 0; shift -= 4) {
            text += "0123456789abcdef"[word >> shift & 15];
        }
    }
    return text;
}

}  // namespace signedge
