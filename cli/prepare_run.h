#pragma once

#include <memory>

#include "cli/command_line.h"
#include "cli/run_folder.h"
#include "configs/schema/run.pb.h"
#include "configs/validate.h"

namespace fathom::cli {

// The config of the command line, loaded, resolved for the ranks there are and validated; the same
// on every rank. Collective. With --dry_run and a single process the config's own mesh counts, of
// any size, and where it leaves mesh.data out a line says what is taken. Throws what
// parallel::agree() throws.
config::RunConfig load_config(const Invocation& invocation, config::Use use);

// Creates and locks the run folder and writes the config into it. Collective; rank 0 gets the
// folder, the others null. Throws what parallel::agree() throws.
std::unique_ptr<RunFolder> open_run_folder(const Session& session, const config::RunConfig& config);

}  // namespace fathom::cli
