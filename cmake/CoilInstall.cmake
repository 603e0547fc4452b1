include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(COIL_CONFIG_DIR "${CMAKE_INSTALL_LIBDIR}/cmake/coil")

install(TARGETS coil coil_testing EXPORT coilTargets)
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/coil" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
    FILES_MATCHING PATTERN "*.hpp")
install(EXPORT coilTargets NAMESPACE coil:: DESTINATION "${COIL_CONFIG_DIR}")

configure_package_config_file(
    "${PROJECT_SOURCE_DIR}/cmake/coilConfig.cmake.in" "${PROJECT_BINARY_DIR}/coilConfig.cmake"
    INSTALL_DESTINATION "${COIL_CONFIG_DIR}"
    NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/coilConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES
    "${PROJECT_BINARY_DIR}/coilConfig.cmake"
    "${PROJECT_BINARY_DIR}/coilConfigVersion.cmake"
    "${PROJECT_SOURCE_DIR}/cmake/CoilPrecompile.cmake"
    "${PROJECT_SOURCE_DIR}/cmake/Findliburing.cmake"
    DESTINATION "${COIL_CONFIG_DIR}")

# It looks for the program in ../../../bin from where it is.
install(FILES "${PROJECT_SOURCE_DIR}/tools/gdb/coil.py" DESTINATION "${CMAKE_INSTALL_DATADIR}/coil/gdb")
