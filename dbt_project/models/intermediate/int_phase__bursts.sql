with parts as (

    select * from {{ ref('int_phase__parts') }}

),

buckets as (

    select * from {{ ref('int_nvlink__buckets') }}

),

totals as (

    select * from {{ ref('int_nvlink__totals') }}

),

-- a burst is its main phase's
counts as (

    select
        trace_no,
        phase,
        count(*) as bursts
    from {{ ref('int_burst__spans') }}
    where phase is not null
    group by trace_no, phase

),

summed as (

    select
        parts.trace_no,
        parts.phase,
        -- a bucket that another phase shares says nothing about this one's peak
        max(buckets.gb_s) filter (where parts.is_whole) as peak_bw_gb_s,
        sum(parts.end_ns - parts.start_ns)
        filter (where buckets.gb_s > {{ var('burst_threshold_gb_s') }}) as burst_ns
    from parts
    inner join buckets on parts.trace_no = buckets.trace_no and parts.bucket = buckets.bucket
    group by parts.trace_no, parts.phase

),

wanted as (

    select distinct
        trace_no,
        phase
    from parts

),

final as (

    select
        wanted.trace_no,
        wanted.phase,
        case when totals.total_nvlink_gb = 0 then 0 else summed.peak_bw_gb_s end as peak_bw_gb_s,
        case when totals.is_known and wanted.phase <> 'step' then coalesce(counts.bursts, 0) end as bursts,
        case when totals.is_known then coalesce(summed.burst_ns, 0) / totals.polled_gpus / 1e9 end as burst_s
    from wanted
    inner join totals on wanted.trace_no = totals.trace_no
    left join summed on wanted.trace_no = summed.trace_no and wanted.phase = summed.phase
    left join counts on wanted.trace_no = counts.trace_no and wanted.phase = counts.phase

)

select * from final
