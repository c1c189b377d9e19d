with traces as (

    select * from {{ ref('int_trace__pending') }}

),

windows as (

    select * from {{ ref('int_profile__windows') }}

),

activity as (

    select
        trace_no,
        sum(kernels) as kernels,
        sum(active_ns) as active_ns,
        sum(comm_ns) as comm_ns,
        sum(nccl_ns) as nccl_ns,
        -- |A and B| = |A| + |B| - |A or B|
        sum(comm_ns + compute_ns - active_ns) as hidden_comm_ns,
        sum(kernel_ns) as kernel_ns,
        sum(nccl_kernel_ns) as nccl_kernel_ns
    from {{ ref('int_kernels__activity') }}
    group by trace_no

),

graphs as (

    select
        windows.trace_no,
        count(*) as graph_launches
    from {{ ref('stg_graph_launches') }} as launches
    inner join windows on launches.trace_id = windows.trace_id
    where
        {{ pending_filter('launches.trace_id') }}
        and {{ intervals_meet('launches.start_ns', 'launches.end_ns', 'windows.window_start_ns', 'windows.window_end_ns') }}
    group by windows.trace_no

),

traced as (

    select trace_id from {{ ref('stg_artifacts') }}
    where {{ pending_filter('trace_id') }} and artifact_format in ('nsys_sqlite', 'nsys_parquet', 'nsys_rep', 'kineto')
    group by trace_id

),

judged as (

    select
        traces.trace_no,
        activity.kernels,
        activity.active_ns,
        activity.comm_ns,
        activity.nccl_ns,
        activity.hidden_comm_ns,
        activity.kernel_ns,
        activity.nccl_kernel_ns,
        coalesce(activity.kernels, 0) > 0 and graphs.graph_launches is null as is_known,
        case
            when graphs.graph_launches > 0
                then
                    graphs.graph_launches
                    || ' CUDA graph launches were traced as a whole: the kernels inside them are invisible '
                    || '(trace with --cuda-graph-trace=node)'
            when activity.kernels is not null then null
            when traced.trace_id is not null then 'no kernel ran in the profile window'
            else 'the trace has no kernel timeline (nsys or Kineto)'
        end as comm_reason,
        traced.trace_id is not null as has_timeline
    from traces
    left join activity on traces.trace_no = activity.trace_no
    left join graphs on traces.trace_no = graphs.trace_no
    left join traced on traces.trace_id = traced.trace_id

),

final as (

    select
        trace_no,
        cast(case when has_timeline then coalesce(kernels, 0) end as bigint) as kernels_in_window,
        case when is_known then active_ns / 1e9 end as gpu_active_s,
        case when is_known then 100 * nccl_ns / nullif(cast(active_ns as double), 0) end as nccl_contribution_pct,
        case when is_known then 100 * comm_ns / nullif(cast(active_ns as double), 0) end as comm_contribution_pct,
        case when is_known then 100 * nccl_kernel_ns / nullif(cast(kernel_ns as double), 0) end as nccl_time_share_pct,
        case when is_known then 100 * hidden_comm_ns / nullif(cast(comm_ns as double), 0) end as comm_compute_overlap_pct,
        case when is_known then (comm_ns - hidden_comm_ns) / 1e9 end as exposed_comm_s,
        comm_reason
    from judged

)

select * from final
