"""The names that the Python classes of TensorRT 11.1 have, as its own bindings define them.

Written down from the sources of the release: class by class, every method, property and member of
https://github.com/NVIDIA/TensorRT/blob/v11.1/python/src/infer/pyCore.cpp (builder, configuration, cache, log, monitor),
https://github.com/NVIDIA/TensorRT/blob/v11.1/python/src/infer/pyGraph.cpp (network, layers, tensors),
https://github.com/NVIDIA/TensorRT/blob/v11.1/python/src/infer/pyFoundationalTypes.cpp (types),
https://github.com/NVIDIA/TensorRT/blob/v11.1/python/src/parsers/pyOnnx.cpp (parser) and
https://github.com/NVIDIA/TensorRT/blob/v11.1/python/src/infer/pyPlugin.cpp (plugins; the module's functions).
https://docs.nvidia.com/deeplearning/tensorrt/11.4.1/api/migration/tensorrt-10x-to-11x.html says what 11 removed.
"""

from __future__ import annotations

_NAMES = {
    "Builder": """
        build_engine_with_config build_serialized_network build_serialized_network_to_stream
        create_builder_config create_network create_optimization_profile error_recorder get_plugin_registry
        gpu_allocator is_network_supported logger max_DLA_batch_size max_threads num_DLA_cores reset
    """,
    "BuilderFlag": """
        DEBUG DIRECT_IO DISABLE_COMPILATION_CACHE DISABLE_TIMING_CACHE DISTRIBUTIVE_INDEPENDENCE
        EDITABLE_TIMING_CACHE ERROR_ON_TIMING_CACHE_MISS EXCLUDE_LEAN_RUNTIME GPU_FALLBACK MONITOR_MEMORY REFIT
        REFIT_IDENTICAL REFIT_INDIVIDUAL SAFETY_SCOPE SPARSE_WEIGHTS STRICT_NANS STRIP_PLAN TF32
        VERSION_COMPATIBLE WEIGHT_STREAMING
    """,
    "DataType": "BF16 BOOL E8M0 FLOAT FP4 FP8 HALF INT32 INT4 INT64 INT8 UINT8",
    "Dims": "MAX_DIMS",
    "EngineInspector": "error_recorder execution_context get_engine_information get_layer_information",
    "ErrorCode": """
        INTERNAL_ERROR INVALID_GRAPH INVALID_NODE INVALID_VALUE MEM_ALLOC_FAILED MODEL_DESERIALIZE_FAILED
        REFIT_FAILED SUCCESS UNSUPPORTED_GRAPH UNSUPPORTED_NODE UNSUPPORTED_NODE_ATTR UNSUPPORTED_NODE_DATATYPE
        UNSUPPORTED_NODE_DYNAMIC UNSUPPORTED_NODE_INPUT UNSUPPORTED_NODE_SHAPE
    """,
    "HardwareCompatibilityLevel": "AMPERE_PLUS NONE SAME_COMPUTE_CAPABILITY",
    "IBuilderConfig": """
        DLA_core add_optimization_profile all_build_routes avg_timing_iterations build_route
        builder_optimization_level can_run_on_DLA clear_flag create_timing_cache default_device_type
        engine_capability flags get_device_type get_flag get_memory_pool_limit get_preview_feature
        get_tactic_sources get_timing_cache hardware_compatibility_level is_device_type_set l2_limit_for_tiling
        max_aux_streams max_num_tactics num_optimization_profiles plugins_to_serialize profile_stream
        profiling_verbosity progress_monitor remote_auto_tuning_config reset reset_device_type runtime_platform
        set_device_type set_flag set_memory_pool_limit set_preview_feature set_tactic_sources set_timing_cache
        tiling_optimization_level
    """,
    "ICudaEngine": """
        create_engine_inspector create_execution_context create_runtime_config create_serialization_config
        device_memory_size_v2 engine_capability error_recorder get_aliased_input_tensor
        get_device_memory_size_for_profile_v2 get_engine_stat get_tensor_bytes_per_component
        get_tensor_components_per_element get_tensor_dtype get_tensor_format get_tensor_format_desc
        get_tensor_location get_tensor_mode get_tensor_name get_tensor_profile_shape get_tensor_profile_values
        get_tensor_shape get_tensor_vectorized_dim get_weight_streaming_automatic_budget
        hardware_compatibility_level is_debug_tensor is_shape_inference_io name num_aux_streams num_io_tensors
        num_layers num_optimization_profiles profiling_verbosity refittable serialize serialize_with_config
        streamable_weights_size tactic_sources weight_streaming_budget_v2 weight_streaming_scratch_memory_size
    """,
    "IExecutionContext": """
        active_optimization_profile all_binding_shapes_specified debug_sync device_memory engine
        enqueue_emits_profile error_recorder execute_async_v3 execute_v2 get_debug_listener get_debug_state
        get_input_consumed_event get_max_output_size get_output_allocator get_runtime_config get_tensor_address
        get_tensor_shape get_tensor_strides infer_shapes name nvtx_verbosity persistent_cache_limit profiler
        report_to_profiler set_all_tensors_debug_state set_aux_streams set_communicator set_debug_listener
        set_device_memory set_input_consumed_event set_input_shape set_optimization_profile_async
        set_output_allocator set_tensor_address set_tensor_debug_state temporary_allocator
        unfused_tensors_debug_state update_device_memory_size_for_shapes
    """,
    "ILayer": "get_input get_output get_output_type metadata name num_inputs num_outputs num_ranks set_input type",
    "ILogger": "Severity log",
    "ILogger.Severity": "ERROR INFO INTERNAL_ERROR VERBOSE WARNING",
    "INetworkDefinition": """
        add_activation add_assertion add_attention add_attention_v2 add_cast add_concatenation add_constant
        add_convolution_nd add_cumulative add_deconvolution_nd add_dequantize add_dist_collective
        add_dynamic_quantize add_dynamic_quantize_v2 add_einsum add_elementwise add_fill add_gather
        add_gather_v2 add_grid_sample add_identity add_if_conditional add_input add_kv_cache_update add_loop
        add_lrn add_matrix_multiply add_moe add_nms add_non_zero add_normalization add_normalization_v2
        add_one_hot add_padding_nd add_parametric_relu add_plugin add_plugin_v2 add_plugin_v3 add_pooling_nd
        add_quantize add_ragged_softmax add_reduce add_resize add_reverse_sequence add_rotary_embedding
        add_scale add_scale_nd add_scatter add_select add_shape add_shuffle add_slice add_softmax add_squeeze
        add_topk add_unary add_unsqueeze are_weights_marked_refittable builder error_recorder flags get_flag
        get_input get_layer get_output has_implicit_batch_dimension is_debug_tensor mark_debug mark_output
        mark_output_for_shapes mark_unfused_tensors_as_debug_tensors mark_weights_refittable name num_inputs
        num_layers num_outputs remove_tensor serialize set_weights_name unmark_debug unmark_output
        unmark_output_for_shapes unmark_unfused_tensors_as_debug_tensors unmark_weights_refittable
    """,
    "IOptimizationProfile": "extra_memory_target get_shape get_shape_input set_shape set_shape_input",
    "IPluginCreatorV3One": "create_plugin field_names name plugin_namespace plugin_version",
    "IPluginRegistry": """
        acquire_plugin_resource all_creators all_creators_recursive deregister_creator deregister_library
        error_recorder get_creator load_library parent_search_enabled register_creator release_plugin_resource
    """,
    "IProgressMonitor": "phase_finish phase_start step_complete",
    "IRuntimeConfig": "get_execution_context_allocation_strategy set_execution_context_allocation_strategy",
    "ITensor": """
        allowed_formats broadcast_across_batch dtype get_dimension_name is_execution_tensor is_network_input
        is_network_output is_shape_tensor location name set_dimension_name shape
    """,
    "ITimingCache": "combine query queryKeys reset serialize update",
    "LayerInformationFormat": "JSON ONELINE",
    "LayerType": """
        ACTIVATION ASSERTION ATTENTION_INPUT ATTENTION_OUTPUT CAST CONCATENATION CONDITION CONDITIONAL_INPUT
        CONDITIONAL_OUTPUT CONSTANT CONVOLUTION CUMULATIVE DECONVOLUTION DEQUANTIZE DIST_COLLECTIVE
        DYNAMIC_QUANTIZE EINSUM ELEMENTWISE FILL GATHER GRID_SAMPLE IDENTITY ITERATOR KV_CACHE_UPDATE
        LOOP_OUTPUT LRN MATRIX_MULTIPLY MOE NMS NON_ZERO NORMALIZATION ONE_HOT PADDING PARAMETRIC_RELU PLUGIN
        PLUGIN_V2 PLUGIN_V3 POOLING QUANTIZE RAGGED_SOFTMAX RECURRENCE REDUCE RESIZE REVERSE_SEQUENCE
        ROTARY_EMBEDDING SCALE SCATTER SELECT SHAPE SHUFFLE SLICE SOFTMAX SQUEEZE TOPK TRIP_LIMIT UNARY
        UNSQUEEZE
    """,
    "NetworkDefinitionCreationFlag": "PREFER_AOT_PYTHON_PLUGINS PREFER_JIT_PYTHON_PLUGINS STRONGLY_TYPED",
    "OnnxParser": """
        clear_errors clear_flag flags get_error get_flag get_layer_output_tensor get_subgraph_nodes
        get_used_vc_plugin_libraries is_subgraph_supported load_initializer load_model_proto num_errors
        num_subgraphs parse parse_from_file parse_model_proto set_builder_config set_flag supports_model_v2
        supports_operator
    """,
    "OnnxParserRefitter": """
        clear_errors get_error load_initializer load_model_proto num_errors refit_from_bytes refit_from_file
        refit_model_proto
    """,
    "ParserError": """
        code desc file func line local_function_stack local_function_stack_size node node_name node_operator
    """,
    "ProfilingVerbosity": "DETAILED LAYER_NAMES_ONLY NONE",
    "Refitter": """
        error_recorder get_all get_all_weights get_missing get_missing_weights get_named_weights get_weights_location
        get_weights_prototype logger max_threads refit_cuda_engine refit_cuda_engine_async set_named_weights set_weights
        unset_named_weights weights_validation
    """,
    "Runtime": """
        DLA_core deserialize_cuda_engine engine_host_code_allowed error_recorder get_plugin_registry
        gpu_allocator load_runtime logger max_threads num_DLA_cores tempfile_control_flags temporary_directory
    """,
    "TensorIOMode": "INPUT NONE OUTPUT",
}

CLASSES = {name: frozenset(text.split()) for name, text in _NAMES.items()}
FUNCTIONS = {"get_plugin_registry"}
