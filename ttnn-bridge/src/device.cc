// Opening, closing, queues, events and traces.
#include "inner.hpp"

#include <stdexcept>

namespace pi0rt::ttnn {

Tensor::Tensor(Inner tensor) : inner(std::make_unique<Inner>(std::move(tensor))) {}
Tensor::~Tensor() = default;
Device::Device(std::unique_ptr<Inner> device) : inner(std::move(device)) {}
Device::~Device() = default;

rust::String implementation() {
#ifdef PI0RT_TTNN_EMULATED
    return "emulation of TTNN " PI0RT_TTNN_VERSION;
#else
    return "TTNN " PI0RT_TTNN_VERSION;
#endif
}

std::unique_ptr<Device> open(const OpenOptions& options) {
    auto device = std::make_unique<Device::Inner>();
    device->mesh = metal::distributed::MeshDevice::create_unit_mesh(
        options.device, options.l1_small, options.trace_region, options.queues);
    device->mesh->enable_program_cache();
    return std::make_unique<Device>(std::move(device));
}

static const char* name_of(tt::ARCH arch) {
    switch (arch) {
        case tt::ARCH::WORMHOLE_B0: return "wormhole";
        case tt::ARCH::BLACKHOLE: return "blackhole";
        default: return "unknown";
    }
}

Facts facts(const Device& device) {
    const auto& mesh = *device.inner->mesh;
    const auto grid = mesh.compute_with_storage_grid_size();
    return {
        name_of(mesh.arch()),
        static_cast<uint32_t>(grid.x),
        static_cast<uint32_t>(grid.y),
        static_cast<uint32_t>(mesh.num_dram_channels()),
        mesh.dram_size_per_channel(),
        mesh.l1_size_per_core(),
    };
}

void close(Device& device) {
    for (const auto& [number, trace] : device.inner->traces) {
        sdk::operations::trace::release_trace(device.inner->mesh.get(), trace);
    }
    device.inner->traces.clear();
    device.inner->mesh->close();
}

void synchronize(const Device& device) { device.inner->mesh->mesh_command_queue(0).finish(); }

void fence(const Device& device, uint8_t from, uint8_t to) {
    const auto event = sdk::events::record_mesh_event(device.inner->mesh.get(), metal::QueueId(from));
    sdk::events::wait_for_mesh_event(metal::QueueId(to), event);
}

uint32_t begin_trace(Device& device) {
    const auto trace = sdk::operations::trace::begin_trace_capture(device.inner->mesh.get(), metal::QueueId(0));
    device.inner->traces.emplace(device.inner->next_trace, trace);
    return device.inner->next_trace++;
}

static sdk::MeshTraceId trace_of(const Device& device, uint32_t trace) {
    const auto found = device.inner->traces.find(trace);
    if (found == device.inner->traces.end()) {
        throw std::out_of_range("trace " + std::to_string(trace) + " was released");
    }
    return found->second;
}

void end_trace(Device& device, uint32_t trace) {
    sdk::operations::trace::end_trace_capture(device.inner->mesh.get(), trace_of(device, trace), metal::QueueId(0));
}

void execute_trace(Device& device, uint32_t trace) {
    sdk::operations::trace::execute_trace(
        device.inner->mesh.get(), trace_of(device, trace), metal::QueueId(0), /*blocking=*/false);
}

void release_trace(Device& device, uint32_t trace) {
    sdk::operations::trace::release_trace(device.inner->mesh.get(), trace_of(device, trace));
    device.inner->traces.erase(trace);
}

}  // namespace pi0rt::ttnn
