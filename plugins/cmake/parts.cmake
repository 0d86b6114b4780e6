# The list of what is built and what is left out, and why: rc_part(), rc_no_part(), rc_print_parts().

function(rc_part name title)
  set(RC_BUILD_${name} ON CACHE INTERNAL "")
  set_property(GLOBAL APPEND PROPERTY RC_PARTS "  built     ${title}")
endfunction()

function(rc_no_part name title reason)
  set(RC_BUILD_${name} OFF CACHE INTERNAL "")
  set_property(GLOBAL APPEND PROPERTY RC_PARTS "  left out  ${title}: ${reason}")
endfunction()

function(rc_print_parts)
  get_property(lines GLOBAL PROPERTY RC_PARTS)
  message(STATUS "rc plugins:")
  foreach(line IN LISTS lines)
    message(STATUS "${line}")
  endforeach()
endfunction()
