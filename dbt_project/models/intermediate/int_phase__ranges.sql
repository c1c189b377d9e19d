with ranges as (

    select * from {{ ref('stg_nvtx_ranges') }}
    where {{ pending_filter('trace_id') }} and range_text is not null and end_ns is not null

),

traces as (

    select * from {{ ref('int_trace__pending') }}

),

patterns as (

    select * from {{ ref('phase_patterns') }}

),

texts as (

    select distinct range_text from ranges

),

phase_texts as (

    select
        texts.range_text,
        arg_min(patterns.phase, patterns.priority) as phase,
        arg_min(patterns.workload, patterns.priority) as workload
    from texts
    inner join patterns on regexp_matches(texts.range_text, patterns.pattern)
    group by texts.range_text

),

final as (

    select
        traces.trace_no,
        traces.trace_id,
        phase_texts.phase,
        ranges.range_text,
        ranges.rank,
        ranges.pid,
        -- Kineto repeats annotations on the GPU's streams, with the time of the kernels below them
        coalesce(ranges.category = 'gpu_user_annotation', false) as is_on_gpu,
        ranges.start_ns,
        ranges.end_ns
    from ranges
    -- one row a text
    inner join phase_texts on ranges.range_text = phase_texts.range_text
    inner join traces on ranges.trace_id = traces.trace_id
    where coalesce(traces.phase, phase_texts.workload) = phase_texts.workload

)

select * from final
