// Files opened once and read through what was opened: what was checked is what is read, whatever happens to the path.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace signedge {

// A regular file of at most 4 GiB.
class PlainFile {
public:
    // Links are followed: the caller chose the path. All throw Error(SIGNEDGE_BAD_FILE) naming the file.
    explicit PlainFile(const std::string &path);
    // Takes the descriptor, -1 where opening failed with errno.
    PlainFile(int descriptor, std::string path);
    PlainFile(const PlainFile &) = delete;
    PlainFile &operator=(const PlainFile &) = delete;
    ~PlainFile();

    const std::string &path() const { return path_; }
    uint64_t size() const { return size_; }
    // Read on into `to`; less than `most` at the end only.
    size_t read(void *to, size_t most);
    // All of it. Throws also when the file is changed meanwhile, or larger than `most`.
    std::vector<uint8_t> read_all(uint64_t most);

private:
    int descriptor_;
    std::string path_;
    uint64_t size_ = 0;
};

// A folder whose files are opened without leaving it: neither by name nor by a symbolic link.
class Folder {
public:
    explicit Folder(const std::string &path);
    Folder(const Folder &) = delete;
    Folder &operator=(const Folder &) = delete;
    ~Folder();

    // Whether there is a folder at the path.
    static bool exists(const std::string &path);
    // Whether the name may be opened here: relative, its parts neither empty nor "." nor "..".
    static bool may_hold(const std::string &name);
    PlainFile open(const std::string &name) const;

private:
    int descriptor_;
    std::string path_;
};

}  // namespace signedge
