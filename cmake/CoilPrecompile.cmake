# coil_precompile_headers(<target> [<header>...]): compiles <coil/coil.hpp>, and what is named besides, once for all sources of
# the target. Installed with coil, for its users' targets.
function(coil_precompile_headers target)
    target_precompile_headers(${target} PRIVATE <coil/coil.hpp> ${ARGN})
endfunction()
