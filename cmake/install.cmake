# SPDX-License-Identifier: Apache-2.0
# What `cmake --install` gives: libsoothe, the header, soothe.pc, a CMake package, the program, its
# man page and models; and beside them the engine that libsoothe was linked with.
include(CMakePackageConfigHelpers)
set(SOOTHE_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/soothe)
file(RELATIVE_PATH BIN_TO_LIB "/${CMAKE_INSTALL_BINDIR}" "/${CMAKE_INSTALL_LIBDIR}")

set_target_properties(soothe PROPERTIES INSTALL_RPATH "$ORIGIN")
install(TARGETS soothe EXPORT soothe-targets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        PUBLIC_HEADER DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
if(TARGET soothe_cli)
  set_target_properties(soothe_cli PROPERTIES INSTALL_RPATH "$ORIGIN/${BIN_TO_LIB}")
  install(TARGETS soothe_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(EXPORT soothe-targets NAMESPACE soothe:: DESTINATION ${SOOTHE_CMAKE_DIR})
configure_package_config_file(cmake/soothe-config.cmake.in ${CMAKE_BINARY_DIR}/soothe-config.cmake
                              INSTALL_DESTINATION ${SOOTHE_CMAKE_DIR})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/soothe-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/soothe-config.cmake ${CMAKE_BINARY_DIR}/soothe-config-version.cmake
        DESTINATION ${SOOTHE_CMAKE_DIR})
configure_file(cmake/soothe.pc.in ${CMAKE_BINARY_DIR}/soothe.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/soothe.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES man/soothe.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(DIRECTORY models/ DESTINATION ${CMAKE_INSTALL_DATADIR}/soothe/models)

# The engine: its libraries, headers and CMake packages, unless the system has them already.
if(DEFINED SOOTHE_ENGINE_PREFIX)
  install(DIRECTORY ${SOOTHE_ENGINE_PREFIX}/lib/ DESTINATION ${CMAKE_INSTALL_LIBDIR} USE_SOURCE_PERMISSIONS
          PATTERN "pkgconfig" EXCLUDE)
  install(DIRECTORY ${SOOTHE_ENGINE_PREFIX}/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
endif()
