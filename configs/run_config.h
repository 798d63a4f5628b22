#pragma once

// The messages of configs/schema/ that headers name. Who looks inside includes the .pb.h.
namespace fathom::config {
class Model;
class RunConfig;
}  // namespace fathom::config
