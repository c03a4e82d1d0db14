// Files opened once and read through what was opened: what was checked is what is read, whatever happens to the path.
#include "plain_file.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.hpp"
#include "text.hpp"

namespace signedge {
namespace {

constexpr uint64_t largest_file = uint64_t{4} << 30;
constexpr size_t largest_read = size_t{1} << 30;  // Linux reads no more than 2 GiB at once

// Not blocking: opening a pipe would wait for someone to write to it.
constexpr int for_reading = O_RDONLY | O_CLOEXEC | O_NONBLOCK;
constexpr int folder_only = O_RDONLY | O_CLOEXEC | O_DIRECTORY;

[[noreturn]] void cannot_open(const std::string &path, int error) {
    const std::string name = shown(path, 400);
    if (error == ENOENT || error == ENOTDIR) {
        fail(SIGNEDGE_BAD_FILE, "missing file %s", name.c_str());
    }
    if (error == ELOOP) {
        fail(SIGNEDGE_BAD_FILE, "%s is a symbolic link; an engine folder holds its files itself", name.c_str());
    }
    fail(SIGNEDGE_BAD_FILE, "cannot open %s: %s", name.c_str(), std::strerror(error));
}

}  // namespace

PlainFile::PlainFile(const std::string &path) : PlainFile(::open(path.c_str(), for_reading), path) {}

PlainFile::PlainFile(int descriptor, std::string path) : descriptor_(descriptor), path_(std::move(path)) {
    if (descriptor_ < 0) {
        cannot_open(path_, errno);
    }
    struct stat status;
    const bool known = fstat(descriptor_, &status) == 0;
    if (!known || !S_ISREG(status.st_mode) || static_cast<uint64_t>(status.st_size) > largest_file) {
        close(descriptor_);
        fail(SIGNEDGE_BAD_FILE, known && S_ISREG(status.st_mode) ? "%s is larger than 4 GiB" : "%s is not a file",
             shown(path_, 400).c_str());
    }
    size_ = static_cast<uint64_t>(status.st_size);
}

PlainFile::~PlainFile() { close(descriptor_); }

size_t PlainFile::read(void *to, size_t most) {
    size_t done = 0;
    while (done < most) {
        const size_t wanted = most - done < largest_read ? most - done : largest_read;
        const ssize_t count = ::read(descriptor_, static_cast<char *>(to) + done, wanted);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            fail(SIGNEDGE_BAD_FILE, "cannot read %s: %s", shown(path_, 400).c_str(), std::strerror(errno));
        }
        if (count == 0) {
            break;
        }
        done += static_cast<size_t>(count);
    }
    return done;
}

std::vector<uint8_t> PlainFile::read_all(uint64_t most) {
    if (size_ > most) {
        fail(SIGNEDGE_BAD_FILE, "%s has %llu bytes; more than %llu are not read", shown(path_, 400).c_str(),
             static_cast<unsigned long long>(size_), static_cast<unsigned long long>(most));
    }
    std::vector<uint8_t> bytes(static_cast<size_t>(size_));
    char beyond;
    if (read(bytes.data(), bytes.size()) != bytes.size() || read(&beyond, 1) != 0) {
        fail(SIGNEDGE_BAD_FILE, "%s changed while it was read", shown(path_, 400).c_str());
    }
    return bytes;
}

Folder::Folder(const std::string &path) : descriptor_(::open(path.c_str(), folder_only)), path_(path) {
    if (descriptor_ < 0) {
        cannot_open(path_, errno);
    }
}

Folder::~Folder() { close(descriptor_); }

bool Folder::exists(const std::string &path) {
    struct stat status;
    return stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

bool Folder::may_hold(const std::string &name) {
    if (name.find('\0') != std::string::npos) {
        return false;
    }
    for (size_t begin = 0; begin <= name.size();) {
        const size_t end = std::min(name.find('/', begin), name.size());
        const std::string part = name.substr(begin, end - begin);
        if (part.empty() || part == "." || part == "..") {
            return false;
        }
        begin = end + 1;
    }
    return true;
}

PlainFile Folder::open(const std::string &name) const {
    const std::string path = path_ + "/" + name;
    if (!may_hold(name)) {
        fail(SIGNEDGE_BAD_FILE, "%s leaves its folder", shown(path, 400).c_str());
    }
    int folder = descriptor_;
    size_t begin = 0;
    for (size_t slash; (slash = name.find('/', begin)) != std::string::npos; begin = slash + 1) {
        const int next = openat(folder, name.substr(begin, slash - begin).c_str(), folder_only | O_NOFOLLOW);
        const int error = errno;
        if (folder != descriptor_) {
            close(folder);
        }
        if (next < 0) {
            cannot_open(path, error);
        }
        folder = next;
    }
    const int descriptor = openat(folder, name.c_str() + begin, for_reading | O_NOFOLLOW);
    const int error = errno;
    if (folder != descriptor_) {
        close(folder);
    }
    errno = error;
    return PlainFile(descriptor, path);
}

}  // namespace signedge
