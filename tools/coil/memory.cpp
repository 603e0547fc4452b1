#include "tools/coil/memory.hpp"

#include <elfutils/libdwfl.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>

namespace coil::tools {

const Memory::Page& Memory::page(Address address) const {
    auto [found, is_new] = pages_.try_emplace(address);
    if (is_new) {
        try {
            found->second.resize(PAGE);
            read_page(address, found->second);
        } catch (...) {
            pages_.erase(found);
            throw;
        }
    }
    return found->second;
}

void Memory::read(Address address, std::span<std::byte> target) const {
    while (!target.empty()) {
        Address begin = address / PAGE * PAGE;
        std::size_t offset = address - begin;
        std::size_t size = std::min(target.size(), PAGE - offset);
        std::memcpy(target.data(), page(begin).data() + offset, size);
        target = target.subspan(size);
        address += size;
    }
}

std::string Memory::text(Address address) const {
    constexpr std::size_t LONGEST = 8192;
    std::string text;
    while (text.size() < LONGEST) {
        char c = get<char>(address + text.size());
        if (c == '\0') return text;
        text += c;
    }
    throw Unreadable("a text has no end");
}

std::string Memory::text(Address address, std::size_t size) const {
    constexpr std::size_t LONGEST = 1 << 20;
    if (size > LONGEST) throw Unreadable("a text is too long to be one");
    std::string text(size, '\0');
    read(address, std::as_writable_bytes(std::span(text)));
    return text;
}

namespace {

// ---- the files that a program consists of

class Modules {
  public:
    explicit Modules(const Dwfl_Callbacks& callbacks) : dwfl_(dwfl_begin(&callbacks)) {
        if (!dwfl_) fail();
    }
    Modules(const Modules&) = delete;
    Modules& operator=(const Modules&) = delete;
    ~Modules() { dwfl_end(dwfl_); }

    Dwfl* get() const noexcept { return dwfl_; }
    [[noreturn]] static void fail() { throw Failure(dwfl_errmsg(-1)); }

    std::vector<Memory::Section> sections(const char* name) const {
        Search search{name, {}};
        auto visit = [](Dwfl_Module* module, void**, const char*, Dwarf_Addr, void* data) {
            auto& wanted = *static_cast<Search*>(data);
            GElf_Addr bias = 0;
            Elf* elf = dwfl_module_getelf(module, &bias);
            if (elf) add_sections(elf, bias, wanted);
            return static_cast<int>(DWARF_CB_OK);
        };
        dwfl_getmodules(dwfl_, visit, &search, 0);
        return search.found;
    }

  private:
    struct Search {
        const char* name;
        std::vector<Memory::Section> found;
    };

    static void add_sections(Elf* elf, GElf_Addr bias, Search& search) {
        std::size_t names = 0;
        if (elf_getshdrstrndx(elf, &names) != 0) return;
        for (Elf_Scn* section = elf_nextscn(elf, nullptr); section; section = elf_nextscn(elf, section)) {
            GElf_Shdr header;
            if (!gelf_getshdr(section, &header)) continue;
            const char* name = elf_strptr(elf, names, header.sh_name);
            if (name && std::string_view(name) == search.name && header.sh_addr != 0)
                search.found.push_back({header.sh_addr + bias, header.sh_size});
        }
    }

    Dwfl* dwfl_;
};

char* no_debug_information = nullptr;

const Dwfl_Callbacks PROCESS_CALLBACKS = {
    .find_elf = dwfl_linux_proc_find_elf,
    .find_debuginfo = dwfl_standard_find_debuginfo,
    .section_address = nullptr,
    .debuginfo_path = &no_debug_information,
};
const Dwfl_Callbacks CORE_CALLBACKS = {
    .find_elf = dwfl_build_id_find_elf,
    .find_debuginfo = dwfl_standard_find_debuginfo,
    .section_address = nullptr,
    .debuginfo_path = &no_debug_information,
};

// ---- a process

std::string process_status(pid_t pid, std::string_view field) {
    std::ifstream status(fmt::format("/proc/{}/status", pid));
    for (std::string line; std::getline(status, line);) {
        if (line.starts_with(field) && line.size() > field.size() && line[field.size()] == ':')
            return line.substr(line.find_first_not_of(" \t", field.size() + 1));
    }
    return {};
}

[[noreturn]] void not_permitted(pid_t pid) {
    throw Failure(
        fmt::format("not permitted to look into process {}: it belongs to somebody else, or the system lets "
                    "only root and parents "
                    "do so (/proc/sys/kernel/yama/ptrace_scope)",
                    pid));
}

class ProcessMemory final : public Memory {
  public:
    explicit ProcessMemory(pid_t pid) : pid_(pid), modules_(PROCESS_CALLBACKS) {
        // Before libdwfl, whose errors do not say why.
        std::ifstream maps(fmt::format("/proc/{}/maps", pid));
        if (!std::filesystem::exists(fmt::format("/proc/{}", pid)) ||
            process_status(pid, "State").starts_with("Z"))
            throw Failure(fmt::format("there is no process {}", pid));
        std::string line;
        if (!std::getline(maps, line)) {
            if (process_status(pid, "Kthread") == "1" || process_status(pid, "VmSize").empty())
                throw Failure(fmt::format("process {} is a part of the kernel", pid));
            not_permitted(pid);
        }
        if (int error = dwfl_linux_proc_report(modules_.get(), pid); error != 0)
            error > 0 ? throw Failure(std::strerror(error)) : Modules::fail();
        dwfl_report_end(modules_.get(), nullptr, nullptr);
    }
    std::vector<Section> sections(const char* name) const override { return modules_.sections(name); }
    std::string describe() const override { return fmt::format("process {}", pid_); }

  private:
    void read_page(Address address, Page& page) const override {
        iovec to{page.data(), page.size()};
        iovec from{reinterpret_cast<void*>(address), page.size()};
        ssize_t size = ::process_vm_readv(pid_, &to, 1, &from, 1, 0);
        if (size == static_cast<ssize_t>(page.size())) return;
        if (size < 0 && errno == EPERM) not_permitted(pid_);
        if (size < 0 && errno == ESRCH) throw Failure(fmt::format("process {} has ended", pid_));
        throw Unreadable(fmt::format("nothing is at address {:#x}", address));
    }

    pid_t pid_;
    Modules modules_;
};

// ---- a core file

class CoreMemory final : public Memory {
  public:
    explicit CoreMemory(std::string path) : path_(std::move(path)), modules_(CORE_CALLBACKS) {
        elf_version(EV_CURRENT);
        fd_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
        if (fd_ < 0) throw Failure(fmt::format("cannot open '{}': {}", path_, std::strerror(errno)));
        elf_ = elf_begin(fd_, ELF_C_READ_MMAP, nullptr);
        GElf_Ehdr header;
        if (!elf_ || elf_kind(elf_) != ELF_K_ELF || !gelf_getehdr(elf_, &header) || header.e_type != ET_CORE)
            throw Failure(fmt::format("'{}' is no core file", path_));
        if (header.e_ident[EI_CLASS] != ELFCLASS64)
            throw Failure(fmt::format("'{}' is of a 32-bit program", path_));
        if (dwfl_core_file_report(modules_.get(), elf_, nullptr) < 0) Modules::fail();
        dwfl_report_end(modules_.get(), nullptr, nullptr);
        std::size_t count = 0;
        elf_getphdrnum(elf_, &count);
        for (std::size_t i = 0; i < count; ++i) {
            GElf_Phdr segment;
            if (gelf_getphdr(elf_, static_cast<int>(i), &segment) && segment.p_type == PT_LOAD)
                segments_.push_back(segment);
        }
    }
    ~CoreMemory() override {
        if (elf_) elf_end(elf_);
        if (fd_ >= 0) ::close(fd_);
    }
    std::vector<Section> sections(const char* name) const override { return modules_.sections(name); }
    std::string describe() const override { return fmt::format("core file '{}'", path_); }

  private:
    void read_page(Address address, Page& page) const override {
        for (const GElf_Phdr& segment : segments_) {
            if (address < segment.p_vaddr || address - segment.p_vaddr >= segment.p_filesz) continue;
            std::size_t offset = segment.p_offset + (address - segment.p_vaddr);
            if (::pread(fd_, page.data(), page.size(), static_cast<off_t>(offset)) ==
                static_cast<ssize_t>(page.size()))
                return;
        }
        // What a file has too is not written to a core file.
        if (Dwfl_Module* module = dwfl_addrmodule(modules_.get(), address)) {
            GElf_Addr bias = 0;
            if (Elf* elf = dwfl_module_getelf(module, &bias); elf && read_file(elf, address - bias, page))
                return;
        }
        throw Unreadable(fmt::format("address {:#x} is not in the core file", address));
    }

    static bool read_file(Elf* elf, Address address, Page& page) {
        std::size_t size = 0;
        const char* image = elf_rawfile(elf, &size);
        std::size_t count = 0;
        if (!image || elf_getphdrnum(elf, &count) != 0) return false;
        for (std::size_t i = 0; i < count; ++i) {
            GElf_Phdr segment;
            if (!gelf_getphdr(elf, static_cast<int>(i), &segment) || segment.p_type != PT_LOAD) continue;
            // Pages, not segments, are mapped.
            Address begin = segment.p_vaddr / PAGE * PAGE;
            std::size_t file_begin = segment.p_offset - (segment.p_vaddr - begin);
            if (address < begin || address >= segment.p_vaddr + segment.p_filesz) continue;
            std::size_t offset = file_begin + (address - begin);
            if (offset >= size) return false;
            std::memcpy(page.data(), image + offset, std::min(page.size(), size - offset));
            return true;
        }
        return false;
    }

    std::string path_;
    Modules modules_;
    int fd_ = -1;
    Elf* elf_ = nullptr;
    std::vector<GElf_Phdr> segments_;
};

}  // namespace

std::unique_ptr<Memory> memory_of_process(pid_t pid) { return std::make_unique<ProcessMemory>(pid); }
std::unique_ptr<Memory> memory_of_core(const std::string& path) { return std::make_unique<CoreMemory>(path); }

// ---- stopping

StoppedProcess::StoppedProcess(pid_t pid) : pid_(pid) {
    try {
        while (stop_new_threads()) {
        }
    } catch (...) {
        let_go();
        throw;
    }
}

StoppedProcess::~StoppedProcess() { let_go(); }

/// True: there were some, and there may be more by now.
bool StoppedProcess::stop_new_threads() {
    bool found = false;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(fmt::format("/proc/{}/task", pid_), error)) {
        auto thread = static_cast<pid_t>(std::stol(entry.path().filename()));
        if (std::ranges::find(threads_, thread, &Thread::number) != threads_.end()) continue;
        if (::ptrace(PTRACE_SEIZE, thread, nullptr, nullptr) != 0) {
            if (errno == ESRCH) continue;  // it has ended
            // A debugger that has stopped it keeps it still for us, too.
            if (process_status(thread, "State").starts_with("t")) continue;
            if (errno == EPERM && process_status(pid_, "TracerPid") != "0")
                throw Failure(fmt::format("process {} is being traced by process {}", pid_,
                                          process_status(pid_, "TracerPid")));
            not_permitted(pid_);
        }
        Thread& stopped = threads_.emplace_back(thread);
        found = true;
        if (::ptrace(PTRACE_INTERRUPT, thread, nullptr, nullptr) != 0) continue;
        int status = 0;
        while (::waitpid(thread, &status, __WALL) < 0 && errno == EINTR) {
        }
        // A signal may have come first: it is given to the thread when it goes on.
        if (WIFSTOPPED(status) && status >> 16 == 0) stopped.signal = WSTOPSIG(status);
    }
    if (error) throw Failure(fmt::format("there is no process {}", pid_));
    return found;
}

void StoppedProcess::let_go() noexcept {
    for (const Thread& thread : threads_) ::ptrace(PTRACE_DETACH, thread.number, nullptr, thread.signal);
}

}  // namespace coil::tools
