with source as (

    select * from {{ source('raw', 'traces') }}

),

renamed as (

    select
        trace_id,
        ingested_at_ns,
        tracelake_version,
        content_sha256,
        source,
        phase,
        model_family,
        moe,
        precision,
        granularity,
        batch_size,
        seq_len,
        input_len,
        output_len,
        dataset,
        framework,
        backend,
        compiler,
        tp,
        pp,
        dp_replicate,
        dp_shard,
        cp,
        ep,
        pp_mb,
        xpu_type,
        gpu_model,
        gpu_count,
        gpus_per_node,
        driver_version,
        topology,
        comm_library,
        comm_library_version,
        contributor,
        description,
        hf_url,
        trace_url,
        card,
        metadata,
        profile_start_ns,
        profile_end_ns
    from source

)

select * from renamed
