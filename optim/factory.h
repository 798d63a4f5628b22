#pragma once

#include <memory>

#include "configs/schema/run.pb.h"
#include "optim/lr_schedule.h"
#include "optim/optimizer.h"
#include "parallel/parameter_buffer.h"

namespace fathom::optim {

// From a resolved and validated config.
DType make_dtype(config::DType dtype);
std::unique_ptr<Optimizer> make_optimizer(const config::Optimizer& config,
                                          parallel::ParameterBuffer& buffer, Stream& stream);
LearningRateSchedule make_learning_rate_schedule(const config::RunConfig& config);
BatchRamp make_batch_ramp(const config::RunConfig& config);

}  // namespace fathom::optim
