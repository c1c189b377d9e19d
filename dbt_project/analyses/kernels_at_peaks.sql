with peaks as (

    select * from {{ ref('peak_kernels') }}

),

counted as (

    select
        trace_id,
        count(distinct peak) as trace_peaks
    from peaks
    group by trace_id

),

final as (

    select
        peaks.trace_id,
        peaks.kernel_name,
        peaks.class,
        peaks.collective,
        count(distinct peaks.peak) as peaks,
        any_value(counted.trace_peaks) as trace_peaks,
        max(peaks.gb_s) as highest_gb_s,
        avg(peaks.overlap_pct) as mean_overlap_pct,
        bool_or(peaks.is_nccl) as is_nccl
    from peaks
    inner join counted on peaks.trace_id = counted.trace_id  -- one row a trace
    group by peaks.trace_id, peaks.kernel_name, peaks.class, peaks.collective
    order by peaks.trace_id asc, peaks desc, mean_overlap_pct desc nulls last, peaks.kernel_name asc nulls last

)

select * from final
