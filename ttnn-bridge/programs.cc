// Counts the programs that TTNN launches; a library to preload. It works on the mock device too.
//
//   c++ -std=c++20 -O1 -shared -fPIC ttnn-bridge/programs.cc -o target/programs.so
//   LD_PRELOAD=target/programs.so PROGRAMS=target/programs.txt pi0rt coverage --device ttnn …
//   grep ^program target/programs.txt | sort | uniq -c | sort -rn
//
// Writes a line for each program, `program NAME`, and for each upload of inputs, `upload`, in order.
#include <cxxabi.h>
#include <dlfcn.h>
#include <execinfo.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace tt::tt_metal::distributed {
class MeshCommandQueue;
class MeshWorkload;
__attribute__((visibility("default"))) void EnqueueMeshWorkload(MeshCommandQueue&, MeshWorkload&, bool);
}  // namespace tt::tt_metal::distributed

namespace {

FILE* out() {
    static FILE* file = [] {
        const char* path = std::getenv("PROGRAMS");
        FILE* file = path ? std::fopen(path, "w") : nullptr;
        return file ? file : stderr;
    }();
    return file;
}

/// Name of the operation that launches: the nearest exported function of TTNN on the stack.
std::string operation() {
    void* frames[24];
    const int count = backtrace(frames, 24);
    for (int i = 2; i < count; i++) {
        Dl_info info;
        if (!dladdr(frames[i], &info) || !info.dli_sname) {
            continue;
        }
        char* plain = abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, nullptr);
        std::string name = plain ? plain : info.dli_sname;
        std::free(plain);
        if (name.rfind("ttnn::", 0) == 0 || name.find(" ttnn::") != std::string::npos) {
            return name.substr(0, name.find('('));
        }
    }
    return "unknown";
}

template <typename Function>
Function next(const char* symbol) {
    return reinterpret_cast<Function>(dlsym(RTLD_NEXT, symbol));
}

}  // namespace

void tt::tt_metal::distributed::EnqueueMeshWorkload(MeshCommandQueue& queue, MeshWorkload& workload, bool blocking) {
    static const auto real = next<void (*)(MeshCommandQueue&, MeshWorkload&, bool)>(
        "_ZN2tt8tt_metal11distributed19EnqueueMeshWorkloadERNS1_16MeshCommandQueueERNS1_12MeshWorkloadEb");
    std::fprintf(out(), "program %s\n", operation().c_str());
    std::fflush(out());
    real(queue, workload, blocking);
}

// copy_to_device(const Tensor&, Tensor&, std::optional<QueueId>): the last fits a register.
extern "C" void
_ZN2tt8tt_metal14copy_to_deviceERKNS0_6TensorERS1_St8optionalIN4ttsl10StrongTypeIhNS0_10QueueIdTagEEEE(
    void* from, void* to, unsigned long queue) {
    static const auto real = next<void (*)(void*, void*, unsigned long)>(
        "_ZN2tt8tt_metal14copy_to_deviceERKNS0_6TensorERS1_St8optionalIN4ttsl10StrongTypeIhNS0_10QueueIdTagEEEE");
    std::fprintf(out(), "upload\n");
    real(from, to, queue);
}
