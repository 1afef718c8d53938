// Memory, queues and traces of the emulated device.
#include "internal.hpp"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <thread>

namespace tt::tt_metal {

using namespace emulation;

namespace {

struct Board {
    const char* name;
    ARCH arch;
    CoreCoord grid;
    int channels;
    uint32_t channel_bytes;
    uint32_t l1_bytes;
};

constexpr Board BOARDS[] = {
    {"n150", ARCH::WORMHOLE_B0, {8, 8}, 12, 1u << 30, 1499136},
    {"n300", ARCH::WORMHOLE_B0, {8, 7}, 12, 1u << 30, 1499136},
    {"p100", ARCH::BLACKHOLE, {12, 10}, 7, 0xff000000u, 1572864},
    {"p150", ARCH::BLACKHOLE, {13, 10}, 8, 0xff000000u, 1572864},
    {"grayskull", ARCH::GRAYSKULL, {12, 9}, 8, 1u << 30, 1048576},
};

struct Step {
    const char* op;
    std::vector<std::shared_ptr<Data>> inputs;
    std::shared_ptr<Data> output;
    std::size_t cols;
    Compute compute;
    int programs;
};

struct Trace {
    std::vector<Step> steps;
    /// Memory allocated during the capture: every replay writes there.
    std::vector<std::shared_ptr<Data>> own;
    bool complete = false;
};

}  // namespace

struct distributed::MeshDevice::State {
    const Board* board = &BOARDS[0];
    std::vector<MeshCommandQueue> queues;
    uint64_t capacity = 0;
    /// Free ranges by address.
    std::map<uint64_t, uint64_t> free;
    std::map<uint64_t, std::weak_ptr<Data>> live;
    std::map<uint32_t, Trace> traces;
    std::set<std::string> programs;
    Trace* capturing = nullptr;
    uint32_t next_trace = 1;
    /// Commands given to each queue; and by queue and other queue, how many of the other's are known to be done before
    /// its next one.
    uint64_t given[2] = {}, after[2][2] = {};
    std::size_t trace_region = 0;
    bool open = true;
    /// Set by PI0RT_EMULATION: replays, or operations where there is no room for traces, until the device
    /// stops answering or fails.
    long hang_after = -1, lose_after = -1;
    bool hung = false, failed = false;
    /// Set by PI0RT_EMULATION: says of each trace how many programs it has.
    bool report = false;
    uint64_t ran = 0;

    void alive() const {
        DEMAND(open, "the device is closed");
        DEMAND(!failed, "TIMEOUT: device timeout, potential hang detected, the device is unrecoverable");
    }

    void work() {
        hung = hung || (hang_after >= 0 && hang_after-- == 0);
        failed = failed || (lose_after >= 0 && lose_after-- == 0);
    }

    void wait() const {
        while (hung) {
            std::this_thread::sleep_for(std::chrono::hours(1));
        }
    }

    /// A command of a queue reads: what the other queue wrote has to be done.
    void reads(uint8_t queue, Data& data, const char* op) {
        const uint8_t other = 1 - queue;
        DEMAND(
            data.written[other] <= after[queue][other], op, " on queue ", int{queue}, " reads what queue ", int{other},
            " may still be writing: it waits for no event");
        data.read[queue] = given[queue];
    }

    /// A command of a queue writes: what the other queue read and wrote has to be done.
    void writes(uint8_t queue, Data& data, const char* op) {
        const uint8_t other = 1 - queue;
        DEMAND(
            std::max(data.written[other], data.read[other]) <= after[queue][other], op, " on queue ", int{queue},
            " writes over what queue ", int{other}, " may still be using: it waits for no event");
        data.written[queue] = given[queue];
    }

    /// The host has waited for commands of a queue: what either queue is given next comes after them.
    void waited(uint8_t queue, uint64_t commands) { after[1 - queue][queue] = std::max(after[1 - queue][queue], commands); }

    void run(const Step& step, const Trace* trace) {
        auto own = [&](const std::shared_ptr<Data>& data) {
            return trace && std::find(trace->own.begin(), trace->own.end(), data) != trace->own.end();
        };
        for (const auto& input : step.inputs) {
            DEMAND(input->live || own(input), step.op, " reads memory that was deallocated");
            DEMAND(!input->clobbered, step.op, " reads a tensor that a trace's replay has overwritten");
        }
        DEMAND(step.output->live || own(step.output), step.op, " writes memory that was deallocated");
        given[0]++;
        for (const auto& input : step.inputs) {
            reads(0, *input, step.op);
        }
        writes(0, *step.output, step.op);
        ran += static_cast<uint64_t>(step.programs);
        auto values = step.compute();
        LIMIT(values.size() == step.output->values.size(), step.op, ": wrong output size");
        round_to(step.output->dtype, values, step.cols);
        step.output->values = std::move(values);
        step.output->clobbered = false;
    }
};

namespace emulation {

Allocation::~Allocation() {
    auto& state = device->state();
    data->live = false;
    state.live.erase(data->address);
    auto [at, fresh] = state.free.emplace(data->address, data->bytes);
    if (!fresh) {
        return;
    }
    auto next = std::next(at);
    if (next != state.free.end() && at->first + at->second == next->first) {
        at->second += next->second;
        state.free.erase(next);
    }
    if (at != state.free.begin()) {
        auto before = std::prev(at);
        if (before->first + before->second == at->first) {
            before->second += at->second;
            state.free.erase(at);
        }
    }
}

Tensor Access::allocate(distributed::MeshDevice* device, const TensorSpec& spec) {
    auto& state = device->state();
    state.alive();
    // A replay writes to the memory of its capture, and would overwrite later allocations.
    DEMAND(
        state.capturing || state.traces.empty(),
        "Allocating device buffers is unsafe due to the existence of an active trace. These buffers may be "
        "corrupted once a trace is executed.");
    const uint64_t bytes = bytes_of(spec);
    for (auto& [address, size] : state.free) {
        if (size < bytes) {
            continue;
        }
        auto data = std::make_shared<Data>();
        data->values.assign(spec.padded_shape().volume(), POISON);
        data->dtype = spec.data_type();
        data->address = address;
        data->bytes = bytes;
        const auto rest = std::pair(address + bytes, size - bytes);
        state.free.erase(address);
        if (rest.second > 0) {
            state.free.insert(rest);
        }
        state.live[data->address] = data;
        if (state.capturing) {
            state.capturing->own.push_back(data);
        }
        return on_device(spec, std::shared_ptr<Allocation>(new Allocation{device, data}));
    }
    uint64_t left = 0;
    for (const auto& [address, size] : state.free) {
        left += size;
    }
    FATAL(
        "address.has_value()", "Out of Memory: Not enough space to allocate ", bytes,
        " B DRAM buffer, where ", left, " B of ", state.capacity, " B are free");
}

uint64_t programs(const distributed::MeshDevice* device) { return device->state().ran; }

void dispatch(
    const char* op, const std::string& program, const std::vector<Tensor>& inputs, const Tensor& output,
    Compute compute, int programs) {
    auto& state = output.device()->state();
    state.alive();
    Step step{op, {}, Access::data(output, op), output.padded_shape()[-1], std::move(compute), programs};
    for (const auto& input : inputs) {
        step.inputs.push_back(Access::data(input, op));
    }
    const bool cached = !state.programs.insert(op + program).second;
    if (state.capturing) {
        DEMAND(
            cached, op, ": a program can't be compiled and written to the device during trace capture: run it ",
            "once before");
        state.capturing->steps.push_back(std::move(step));
        return;
    }
    state.run(step, nullptr);
    if (state.trace_region == 0) {
        state.work();
    }
}

}  // namespace emulation

namespace distributed {

void MeshCommandQueue::finish() {
    auto& state = device_->state();
    state.alive();
    DEMAND(!state.capturing, "Finish is not supported during trace capture");
    state.wait();
    state.waited(id_, state.given[id_]);
}

std::shared_ptr<MeshDevice> MeshDevice::create_unit_mesh(
    int device_id, std::size_t, std::size_t trace_region_size, std::size_t num_command_queues) {
    DEMAND(num_command_queues == 1 || num_command_queues == 2, "a device has 1 or 2 command queues");
    auto state = std::make_unique<State>();
    uint64_t dram = 0;
    int boards = 1;
    // "board=p150,dram_mib=64,hang_after=3,lose_after=3,hang_open,boards=0,report,defect"
    std::istringstream settings(std::getenv("PI0RT_EMULATION") ? std::getenv("PI0RT_EMULATION") : "");
    for (std::string setting; std::getline(settings, setting, ',');) {
        const auto equals = setting.find('=');
        const auto name = setting.substr(0, equals);
        const auto value = equals == std::string::npos ? "" : setting.substr(equals + 1);
        if (name == "board") {
            state->board = nullptr;
            for (const auto& board : BOARDS) {
                state->board = value == board.name ? &board : state->board;
            }
            DEMAND(state->board, "PI0RT_EMULATION names a board that is not known: ", value);
        } else if (name == "dram_mib") {
            dram = std::stoull(value) << 20;
        } else if (name == "hang_after") {
            state->hang_after = std::stol(value);
        } else if (name == "lose_after") {
            state->lose_after = std::stol(value);
        } else if (name == "report") {
            state->report = true;
        } else if (name == "hang_open") {
            state->hung = true;
        } else if (name == "defect") {
            // A defect that only sanitizers notice.
            std::vector<float> values(8);
            volatile std::size_t after = values.size();
            values.data()[after] = 1;
        } else if (name == "boards") {
            boards = std::stoi(value);
        } else {
            FATAL("PI0RT_EMULATION", "unknown setting ", setting);
        }
    }
    DEMAND(
        device_id >= 0 && device_id < boards, "Device index ", device_id, " is out of range: ", boards,
        " devices were found");
    state->wait();
    state->capacity = dram ? dram : uint64_t{state->board->channel_bytes} * state->board->channels;
    state->free[0] = state->capacity;
    state->trace_region = trace_region_size;
    std::shared_ptr<MeshDevice> device(new MeshDevice);
    for (std::size_t i = 0; i < num_command_queues; i++) {
        state->queues.emplace_back(device.get(), static_cast<uint8_t>(i));
    }
    device->state_ = std::move(state);
    return device;
}

MeshDevice::~MeshDevice() = default;
ARCH MeshDevice::arch() const { return state_->board->arch; }
CoreCoord MeshDevice::compute_with_storage_grid_size() const { return state_->board->grid; }
int MeshDevice::num_dram_channels() const { return state_->board->channels; }
uint32_t MeshDevice::dram_size_per_channel() const {
    return static_cast<uint32_t>(state_->capacity / state_->board->channels);
}
uint32_t MeshDevice::l1_size_per_core() const { return state_->board->l1_bytes; }
uint8_t MeshDevice::num_hw_cqs() const { return static_cast<uint8_t>(state_->queues.size()); }
void MeshDevice::enable_program_cache() {}
MeshCommandQueue& MeshDevice::mesh_command_queue(std::optional<uint8_t> cq_id) const {
    DEMAND(cq_id.value_or(0) < state_->queues.size(), "no such command queue");
    return state_->queues[cq_id.value_or(0)];
}
bool MeshDevice::close() {
    state_->open = false;
    state_->traces.clear();
    return true;
}

}  // namespace distributed
}  // namespace tt::tt_metal

namespace ttnn {

using namespace tt::tt_metal::emulation;

DeviceComputeKernelConfig init_device_compute_kernel_config(
    tt::ARCH, const std::optional<const DeviceComputeKernelConfig>&, MathFidelity fidelity, bool approximate,
    bool f32_accumulate, bool l1_accumulate) {
    return WormholeComputeKernelConfig{fidelity, approximate, f32_accumulate, l1_accumulate, false};
}

namespace events {

MeshEvent record_mesh_event(MeshDevice* device, std::optional<QueueId> cq_id) {
    auto& state = device->state();
    state.alive();
    DEMAND(!state.capturing, "Event Synchronization is not supported during trace capture.");
    const auto queue = cq_id ? static_cast<uint8_t>(*cq_id) : uint8_t{0};
    DEMAND(queue < state.queues.size(), "no such command queue");
    return {device, queue, ++state.given[queue]};
}

void wait_for_mesh_event(std::optional<QueueId> cq_id, const MeshEvent& event) {
    DEMAND(event.at > 0, "waits for an event that was never recorded");
    auto& state = event.device->state();
    DEMAND(!state.capturing, "Event Synchronization is not supported during trace capture.");
    const auto queue = cq_id ? static_cast<uint8_t>(*cq_id) : uint8_t{0};
    if (queue != event.queue) {
        state.waited(event.queue, event.at);
    }
}

void event_synchronize(const MeshEvent& event) {
    DEMAND(event.at > 0, "waits for an event that was never recorded");
    event.device->state().wait();
    event.device->state().waited(event.queue, event.at);
}

}  // namespace events

namespace operations::trace {

MeshTraceId begin_trace_capture(MeshDevice* device, std::optional<QueueId>) {
    auto& state = device->state();
    state.alive();
    DEMAND(!state.capturing, "a trace is being captured already");
    DEMAND(state.trace_region > 0, "trace_region_size is 0: open the device with room for traces");
    const auto id = state.next_trace++;
    state.capturing = &state.traces[id];
    return {id};
}

void end_trace_capture(MeshDevice* device, MeshTraceId id, std::optional<QueueId>) {
    auto& state = device->state();
    auto trace = state.traces.find(id.value);
    DEMAND(trace != state.traces.end() && state.capturing == &trace->second, "ends a trace that was not begun");
    trace->second.complete = true;
    state.capturing = nullptr;
    if (state.report) {
        std::map<std::string, int> programs;
        int all = 0;
        for (const auto& step : trace->second.steps) {
            programs[step.op] += step.programs;
            all += step.programs;
        }
        std::ostringstream line;
        line << "trace: " << all << " programs";
        for (const auto& [op, count] : programs) {
            line << ", " << op << " " << count;
        }
        std::cerr << line.str() << std::endl;
    }
    // Approximate size of a dispatched program's commands.
    std::size_t bytes = 0;
    for (const auto& [other, commands] : state.traces) {
        bytes += commands.steps.size() * 4096;
    }
    DEMAND(
        bytes <= state.trace_region, "Creating trace buffers of size ", bytes,
        "B on MeshDevice, but only ", state.trace_region, "B is allocated for trace region.");
}

void execute_trace(MeshDevice* device, MeshTraceId id, std::optional<QueueId>, bool blocking) {
    auto& state = device->state();
    state.alive();
    DEMAND(!state.capturing, "a trace can't be executed during trace capture");
    auto trace = state.traces.find(id.value);
    DEMAND(trace != state.traces.end() && trace->second.complete, "Trace instance ", id.value, " must exist");
    state.work();
    for (const auto& own : trace->second.own) {
        own->values.assign(own->values.size(), POISON);
        for (auto& [address, weak] : state.live) {
            auto other = weak.lock();
            if (other && other != own && address < own->address + own->bytes &&
                own->address < address + other->bytes) {
                other->clobbered = true;
            }
        }
    }
    if (!state.hung) {
        for (const auto& step : trace->second.steps) {
            state.run(step, &trace->second);
        }
    }
    if (blocking) {
        state.wait();
    }
}

void release_trace(MeshDevice* device, MeshTraceId id) {
    auto& state = device->state();
    auto trace = state.traces.find(id.value);
    DEMAND(trace != state.traces.end(), "Trace instance ", id.value, " must exist");
    if (state.capturing == &trace->second) {
        state.capturing = nullptr;
    }
    state.traces.erase(trace);
}

}  // namespace operations::trace
}  // namespace ttnn

namespace tt::tt_metal {

void copy_to_device(const Tensor& host, Tensor& device, std::optional<QueueId> cq_id) {
    auto data = Access::data(device, "copy_to_device");
    const auto queue = cq_id ? static_cast<uint8_t>(*cq_id) : uint8_t{0};
    auto& state = device.device()->state();
    state.alive();
    DEMAND(!state.capturing, "Writes are not supported during trace capture.");
    DEMAND(
        host.logical_shape() == device.logical_shape() && host.dtype() == device.dtype() &&
            host.layout() == device.layout(),
        "copy_to_device: host tensor ", to_string(host.logical_shape()), " and device tensor ",
        to_string(device.logical_shape()), " must have the same spec");
    DEMAND(queue < state.queues.size(), "no such command queue");
    state.given[queue]++;
    state.writes(queue, *data, "copy_to_device");
    data->values = pad(device.tensor_spec(), Access::host_values(host), 0);
    round_to(data->dtype, data->values, device.padded_shape()[-1]);
    data->clobbered = false;
}

namespace emulation {

/// The values of a tensor as read back from device memory.
std::vector<float> read_back(const Tensor& tensor) {
    auto data = Access::data(tensor, "read");
    auto& state = tensor.device()->state();
    state.alive();
    DEMAND(!state.capturing, "Reads are not supported during trace capture.");
    state.wait();
    DEMAND(!data->clobbered, "reads a tensor that a trace's replay has overwritten");
    state.given[0]++;
    state.reads(0, *data, "read");
    state.waited(0, state.given[0]);
    return unpad(tensor.tensor_spec(), data->values);
}

}  // namespace emulation
}  // namespace tt::tt_metal
