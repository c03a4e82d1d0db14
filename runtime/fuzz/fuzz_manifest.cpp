// Manifests of whatever text: each is refused in one line, or names files below its folder with their hashes.
#include "engine_file.hpp"
#include "refused.hpp"

namespace {

void check(const signedge::Manifest &manifest) {
    for (const auto &[name, hash] : manifest.files) {
        const std::string path = "/" + name + "/";
        for (const char *step : {"/../", "/./", "//"}) {
            fuzz::need(path.find(step) == std::string::npos);
        }
        fuzz::need(name.find('\0') == std::string::npos && hash.size() == 64);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const std::string text(reinterpret_cast<const char *>(data), size);
    fuzz::take_or_refuse(SIGNEDGE_BAD_FILE, [&] { check(signedge::parse_manifest(text)); });
    return 0;
}
