# Where `cmake --install` puts things. The tree it makes may be moved as a whole: the program finds its
# plugins, and weft.pc and the CMake package find the headers, from where they lie themselves.
#
#   bin/weft  lib/weft/plugins/*.so  include/weft*.h  share/weft/{server.ini,weft.service,weft.socket}
#   lib/libweft_test.so  lib/pkgconfig/weft.pc weft-test.pc  lib/cmake/weft/  share/doc/weft/
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(WEFT_INSTALL_PLUGINS ${CMAKE_INSTALL_LIBDIR}/weft/plugins)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/weft)
file(RELATIVE_PATH WEFT_PLUGINS_FROM_PROGRAM
  ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_LIBDIR}/weft/plugins)
file(RELATIVE_PATH WEFT_PREFIX_FROM_PC ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" WEFT_PREFIX_FROM_PC "${WEFT_PREFIX_FROM_PC}")

# What is built with the sanitizers can only be linked with them.
set(WEFT_SANITIZE_FLAG "")
if(WEFT_SANITIZE)
  set(WEFT_SANITIZE_FLAG " -fsanitize=${WEFT_SANITIZE}")
endif()
configure_file(cmake/weft.pc.in ${PROJECT_BINARY_DIR}/weft.pc @ONLY)
configure_file(cmake/weft-test.pc.in ${PROJECT_BINARY_DIR}/weft-test.pc @ONLY)
configure_package_config_file(cmake/weft-config.cmake.in ${PROJECT_BINARY_DIR}/weft-config.cmake
  INSTALL_DESTINATION ${package_dir}
  PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_BINDIR WEFT_INSTALL_PLUGINS)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/weft-config-version.cmake
  COMPATIBILITY SameMajorVersion ARCH_INDEPENDENT)

install(DIRECTORY include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")
install(FILES ${PROJECT_BINARY_DIR}/weft.pc ${PROJECT_BINARY_DIR}/weft-test.pc
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES cmake/WeftPlugin.cmake cmake/plugin.map ${PROJECT_BINARY_DIR}/weft-config.cmake
  ${PROJECT_BINARY_DIR}/weft-config-version.cmake DESTINATION ${package_dir})
install(EXPORT weft-targets NAMESPACE weft:: DESTINATION ${package_dir})
install(FILES config/server.ini config/static.ini config/weft.service config/weft.socket DESTINATION ${CMAKE_INSTALL_DATADIR}/weft)
install(FILES README.md CHANGELOG.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
